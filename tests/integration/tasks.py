"""A preload for the tests: functions that behave and functions that do not."""
import ctypes
import os
import time


def fnc(x):
    return x


def add(x, y):
    return x + y


def last(i, value):
    """i + the last element of what was put, which may be read and not written to."""
    if isinstance(value, dict):
        value = value["inside"][0]
    try:
        value[0] = 1
    except (ValueError, TypeError):
        return i + int(value[-1])
    return "it could be written to"


def last_slowly(i, value):
    time.sleep(0.05)
    return last(i, value)


def late(x):
    time.sleep(0.05)
    return x


def pid(_):
    time.sleep(0.01)
    return os.getpid()


def raises(x):
    if x == 3:
        raise ValueError("no threes")
    return x


def kills(x):
    if x == 3:
        os.kill(os.getpid(), 9)
    return x


def exits(x):
    if x == 3:
        os._exit(3)
    return x


def segfaults(x):
    if x == 3:
        ctypes.string_at(0)
    return x


def nap(seconds):
    time.sleep(seconds)
    return seconds


def hold_gil(seconds):
    ctypes.PyDLL(None).sleep(int(seconds))
    return seconds


def threads(_):
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    return [os.environ.get(name) for name in names]


def draw(_):
    import random

    import numpy

    return [random.random(), *numpy.random.rand(2)]


def echo_types(x):
    return [type(x).__name__, x]


def strange(kind):
    import numpy

    return {
        "set": lambda: {1, 2},
        "big": lambda: 1 << 70,
        "loop": lambda: (lambda a: (a.append(a), a)[1])([]),
        "complex": lambda: numpy.zeros(3, complex),
        "keys": lambda: {1: 2},
        "surrogate": lambda: "\ud800",
    }[kind]()


def forms(kind):
    import numpy

    return {
        "tuple": lambda: (1, 2),
        "bytes": lambda: b"\x00\x01\x02",
        "scalar": lambda: numpy.float32(0.5),
        "int64": lambda: numpy.int64(7),
        "bool": lambda: numpy.bool_(True),
        "matrix": lambda: numpy.arange(6, dtype="i4").reshape(2, 3).T,
        "nan": lambda: float("nan"),
        "nested": lambda: {"a": [1, {"b": None}], "ü": "é"},
    }[kind]()


def large(size):
    return bytes(size)


def length(data):
    return len(data)


def once(path):
    """Adds a line to a file: how often did this run?"""
    with open(path, "a") as file:
        file.write("ran\n")
    time.sleep(0.5)
    return path


def kill_parent(x):
    if x == 3:
        os.kill(os.getppid(), 9)
        time.sleep(10)
    return x


def exit_silently(x):
    raise SystemExit(x)


def forks(x):
    """Leaves a child behind that holds the executor's descriptors, then dies."""
    if x == 3:
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        os.kill(os.getpid(), 9)
    return x


def suicide(x):
    """Kills its process if the item says so."""
    if isinstance(x, str):
        os.kill(os.getpid(), 9)
    return x


def note(args):
    """Adds a line to a file, then takes its time: how often did each item run?"""
    path, item, seconds = args
    with open(path, "a") as file:
        file.write(f"{item}\n")
    time.sleep(seconds)
    return item


def stubborn(seconds):
    """Does not stop when it is interrupted."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            time.sleep(0.05)
        except KeyboardInterrupt:
            pass
    return seconds


def eats(mib):
    """Takes memory and holds it for a while."""
    block = bytearray(mib << 20)
    for i in range(0, len(block), 4096):
        block[i] = 1
    time.sleep(1)
    return len(block) >> 20


def process(_):
    return os.getpid()


def flaky(path):
    """Raises the first two times."""
    with open(path, "a") as file:
        file.write("ran\n")
    with open(path) as file:
        runs = len(file.readlines())
    if runs < 3:
        raise RuntimeError(f"run {runs}")
    return runs
