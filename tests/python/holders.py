"""Values that hold memory: each is made of an array of uint8 that its maker fills again for the
next one, and read back as bytes. Both sides of a fleet use these."""
import array
import collections
import dataclasses
import functools
import io
import pickle
import sys
import types

import cloudpickle
import numpy as np
import pandas as pd

KIB = 1024
# On both sides of what is lent, sent in a frame, or shared; and small and large ones.
SIZES = [KIB * k for k in (1, 31, 33, 63, 65, 255, 257, 1024)]


@dataclasses.dataclass
class Record:
    name: str
    data: object


class Plain:
    def __init__(self, data):
        self.data = data


class Slots:
    __slots__ = ("data",)

    def __init__(self, data):
        self.data = data


class State:
    def __init__(self, data):
        self.data = data

    def __getstate__(self):
        return {"data": self.data, "more": 1}


class Lends:
    """Reduces to memory of its own choice."""

    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return bytes, (pickle.PickleBuffer(self.memory),)


class Fills(Lends):
    """Fills its memory only when it is pickled."""

    def __init__(self, memory, number):
        super().__init__(memory)
        self.number = number

    def __reduce_ex__(self, protocol):
        self.memory[:] = self.number
        return super().__reduce_ex__(protocol)


class CleansUp(Plain):
    """Gives its memory back when nobody needs it."""

    def __del__(self):
        try:
            self.data[:] = 77
        except ValueError:
            pass  # read-only, where it came as an argument


class Sub(np.ndarray):
    pass


Pair = collections.namedtuple("Pair", "first second")


def bytes_of(value):
    """Any one thing with memory, as uint8."""
    if isinstance(value, np.ndarray):
        return np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return np.frombuffer(bytes(value), np.uint8)


def data_of(holder):
    return bytes_of(holder.data)


def several(*parts):
    return np.concatenate([bytes_of(part) for part in parts])


def readonly(buffer):
    view = buffer.view()
    view.flags.writeable = False
    return view


def frame(buffer):
    return pd.DataFrame(buffer.view(np.float64).reshape(-1, 8), copy=False)


def mixed_frame(buffer):
    numbers = frame(buffer)
    numbers["text"] = "x"
    return numbers


def objects(buffer):
    made = np.empty(2, dtype=object)
    made[0], made[1] = buffer, "x"
    return made


def error_with(buffer):
    error = ValueError("with data")
    error.data = buffer
    return error


def kept(kind, size, make):
    """The process's one of that kind and size: it is filled again and again."""
    return sys.__dict__.setdefault("_kept_by_tests", {}).setdefault((kind, size), make())


def buffer_of(size, number):
    buffer = kept("buffer", size, lambda: np.zeros(size, np.uint8))
    buffer[:] = number
    return buffer


def bytearray_of(buffer):
    made = kept("bytearray", len(buffer), lambda: bytearray(len(buffer)))
    made[:] = buffer.tobytes()
    return made


def array_of(buffer):
    made = kept("array", len(buffer), lambda: array.array("d", bytes(len(buffer))))
    memoryview(made).cast("B")[:] = buffer.data
    return made


def file_of(buffer):
    made = kept("file", len(buffer), io.BytesIO)
    made.seek(0)
    made.write(buffer.tobytes())
    return made


HOLDERS = {  # name: (what is made of a buffer, how it is read)
    "itself": (lambda b: b, bytes_of),
    "floats": (lambda b: b.view(np.float64), bytes_of),
    "matrix": (lambda b: b.reshape(-1, 64), bytes_of),
    "half": (lambda b: b[: len(b) // 2], bytes_of),
    "every_other": (lambda b: b[::2], bytes_of),
    "backwards": (lambda b: b[::-1], bytes_of),
    "transposed": (lambda b: b.reshape(-1, 64).T, bytes_of),
    "fortran": (lambda b: b.reshape((-1, 64), order="F"), bytes_of),
    "broadcast": (lambda b: np.broadcast_to(b, (2, len(b))), bytes_of),
    "readonly": (readonly, bytes_of),
    "subclass": (lambda b: b.view(Sub), bytes_of),
    "masked": (lambda b: np.ma.masked_array(b, copy=False), lambda v: bytes_of(v.data)),
    "structured": (lambda b: b.view([("a", "i4"), ("b", "f4")]), bytes_of),
    "dates": (lambda b: b.view("M8[s]"), bytes_of),
    "complex": (lambda b: b.view(np.complex128), bytes_of),
    "big_endian": (lambda b: b.view(">i4"), bytes_of),
    "objects": (objects, lambda v: bytes_of(v[0])),
    "dict": (lambda b: {"a": b}, lambda v: bytes_of(v["a"])),
    "tuple": (lambda b: (1, b), lambda v: bytes_of(v[1])),
    "list": (lambda b: [b], lambda v: bytes_of(v[0])),
    "twice": (lambda b: [b, b], lambda v: several(*v)),
    "twice_viewed": (lambda b: [b, b[:]], lambda v: several(*v)),
    "nested": (lambda b: {"a": [(b, {"c": b})]}, lambda v: several(v["a"][0][0], v["a"][0][1]["c"])),
    "with_others": (lambda b: [None, "x" * 1000, b, 2**100], lambda v: bytes_of(v[2])),
    "deque": (lambda b: collections.deque([b]), lambda v: bytes_of(v[0])),
    "ordered": (lambda b: collections.OrderedDict(a=b), lambda v: bytes_of(v["a"])),
    "namedtuple": (lambda b: Pair(1, b), lambda v: bytes_of(v[1])),
    "namespace": (lambda b: types.SimpleNamespace(data=b), data_of),
    "dataclass": (lambda b: Record("r", b), data_of),
    "object": (Plain, data_of),
    "slots": (Slots, data_of),
    "getstate": (State, data_of),
    "partial": (lambda b: functools.partial(len, b), lambda v: bytes_of(v.args[0])),
    "exception": (error_with, data_of),
    "iterator": (lambda b: iter([b]), lambda v: bytes_of(next(v))),
    "frame": (frame, lambda v: bytes_of(v.to_numpy())),
    "mixed_frame": (mixed_frame, lambda v: bytes_of(v.iloc[:, :8].to_numpy(np.float64))),
    "series": (lambda b: pd.Series(b, copy=False), lambda v: bytes_of(v.to_numpy())),
    "index": (lambda b: pd.Index(b.view(np.int64), copy=False), lambda v: bytes_of(v.to_numpy())),
    "frames": (lambda b: {"a": frame(b), "b": b}, lambda v: several(v["a"].to_numpy(), v["b"])),
    "bytearray": (bytearray_of, bytes_of),
    "bytearrays": (lambda b: {"a": [bytearray_of(b)]}, lambda v: bytes_of(v["a"][0])),
    "array.array": (array_of, bytes_of),
    "file": (file_of, lambda v: bytes_of(v.getvalue())),
    "lends": (Lends, bytes_of),
    "lends_bytearray": (lambda b: Lends(bytearray_of(b)), bytes_of),
    "lends_view": (lambda b: Lends(memoryview(b)), bytes_of),
    "lends_inside": (lambda b: {"a": [Lends(b), Lends(b)]}, lambda v: several(*v["a"])),
    "lends_again": (lambda b: [Fills(b, b[0]), Fills(b, 200)],
                    lambda v: bytes_of(v[0]) if set(v[1]) == {200} else bytes_of(v[1])),
}
# As results only: an argument of that kind would be spoilt by its own caller.
RESULTS = {**HOLDERS, "cleans_up": (CleansUp, data_of)}
if int(cloudpickle.__version__.split(".")[0]) >= 3:
    del RESULTS["slots"]  # a class by value loses them there: what comes back does not fit ours


def same(read, value, number):
    """Whether all that is held is that number."""
    found = read(value)
    return len(found) > 0 and bool((found == number).all())
