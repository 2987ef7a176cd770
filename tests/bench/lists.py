"""A million ints as a Python list, mapped by a fleet, as a Python list again, through
libpeach's C interface: lists.py LIBPEACH prints the seconds."""
import array
import ctypes
import sys
import time

lib = ctypes.CDLL(sys.argv[1])
for name in ("peach_connect", "peach_value_array", "peach_map", "peach_value_array_bytes"):
    getattr(lib, name).restype = ctypes.c_void_p
INT64, P = 8, ctypes.c_void_p


def fleet_map(fleet, function, items):
    numbers = array.array("q", items)
    count = ctypes.c_uint64(len(numbers))
    address, _ = numbers.buffer_info()
    value = P(lib.peach_value_array(INT64, ctypes.c_size_t(1), ctypes.byref(count), P(address)))
    job = P(lib.peach_map(fleet, function, ctypes.byref(value), None))
    results, size = P(), ctypes.c_size_t()
    if lib.peach_job_collect(job, ctypes.byref(results), 60000) != 0:
        sys.exit("the map failed")
    data = P(lib.peach_value_array_bytes(results, ctypes.byref(size)))
    back = memoryview((ctypes.c_int64 * (size.value // 8)).from_address(data.value)).cast("B")
    back = back.cast("q").tolist()
    lib.peach_value_destroy(ctypes.byref(results))
    lib.peach_job_destroy(ctypes.byref(job))
    return back


fleet = P(lib.peach_connect(None, 3000, None))
items = list(range(1000000))
fleet_map(fleet, b"same", items)  # warm
begin = time.perf_counter()
assert fleet_map(fleet, b"same", items) == items
print(time.perf_counter() - begin)
