"""What functions return to the shell and to C: values, not pickles."""
import pytest
from conftest import lines, peach

SCRIPT = """
import array, ctypes
import numpy as np

KINDS = {
    "array": lambda n: np.zeros(n),
    "bytearray": lambda n: bytearray(8 * n),
    "memoryview": lambda n: memoryview(bytearray(8 * n)).cast("d"),
    "array.array": lambda n: array.array("d", bytes(8 * n)),
    "ctypes": lambda n: (ctypes.c_double * n)(),
}
SHAPES = {
    "itself": lambda v, n: v,
    "list": lambda v, n: [v, v],
    "dict": lambda v, n: {"a": [v], "b": {"c": v}},
    "view": lambda v, n: memoryview(n)[: len(n) // 2],
    "every_other": lambda v, n: n[::2],
    "rows": lambda v, n: n.reshape(-1, 16),
}
kept = {}

def same_buffer(item):
    kind, shape, size, number = item
    count = size // 8
    value = kept.setdefault((kind, count), KINDS[kind](count))
    numbers = np.frombuffer(value, np.float64)
    numbers[:] = number
    return SHAPES[shape](value, numbers)

def empty(shape):
    return np.empty(shape)

def same(x):
    return x

def numpy_same(x):
    return np.uint64(x)
"""


def numbers(value):
    """All doubles of a result."""
    if isinstance(value, dict) and "$bytes" in value:
        import base64
        import struct
        raw = base64.b64decode(value["$bytes"])
        return list(struct.unpack(f"<{len(raw) // 8}d", raw))
    if isinstance(value, (list, dict)):
        parts = value.values() if isinstance(value, dict) else value
        return [number for part in parts for number in numbers(part)]
    return [float(value)]


@pytest.mark.held
@pytest.mark.parametrize("kind", ["array", "bytearray", "memoryview", "array.array", "ctypes"])
def test_a_value_is_what_it_was_when_the_function_returned(script, kind):
    """worker.A1, of the plain form: one buffer is filled again for each item of a task."""
    shapes = ["itself", "list", "dict", "view", "every_other", "rows"]
    items = [f'["{kind}", "{shape}", {size}, {number}]' for shape in shapes
             for size in (1024, 33792, 66560) for number in range(4)]
    done = peach("run", "-n", 1, "-l", script(SCRIPT), "--chunk", 50, "same_buffer", *items,
                 check=0)
    for i, value in enumerate(lines(done)):
        assert set(numbers(value)) == {i % 4}, items[i]


def test_an_empty_array_has_as_many_columns_as_it_likes(script):
    """worker.C10: a MemoryError without a word."""
    done = peach("run", "-n", 1, "-l", script(SCRIPT), "empty", "[0, 5000]", "[3, 0, 9000]",
                 "[5000, 0]", check=1)
    first, second, third = lines(done)
    assert first == [] and second == [[], [], []]
    assert third["error"]["type"] == "ValueError"
    assert "(5000, 0)" in third["error"]["message"] and "4096" in third["error"]["message"]


@pytest.mark.parametrize("function", ["same", "numpy_same"])
def test_a_uint64_keeps_its_digits(script, function):
    """operations.N6, protocol.P3: as items, in the function, and as its results."""
    items = ['{"$uint": "18446744073709551615"}', '{"$uint": "9223372036854775808"}', "7"]
    done = peach("run", "-n", 1, "-l", script(SCRIPT), function, *items, check=0)
    assert lines(done) == [{"$uint": "18446744073709551615"}, {"$uint": "9223372036854775808"}, 7]
