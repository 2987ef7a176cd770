# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Python objects to bytes and back, with their buffers beside them (pickle protocol 5), and
values' arrays as numpy's.

What plain pickle can do it does, because it is many times faster; what was defined in
__main__, lambdas and closures go by value, with cloudpickle.

Used by clients and, compiled into peach_python.so, by executors: it imports nothing of the
package, and what takes time only when it is used: every executor starts with this.
"""
import sys

LEAST_BUFFER = 32768  # bytes; smaller ones are copied into the pickle


def dumps(obj):
    """(pickle, [buffer, ...]); buffers are contiguous, lent from obj."""
    import pickle

    buffers = []

    def keep(buffer):
        raw = buffer.raw()
        if raw.nbytes < LEAST_BUFFER:
            return True
        buffers.append(raw)
        return False

    first = None
    if not by_value():
        try:
            data = pickle.dumps(obj, 5, buffer_callback=keep)
            if b"__main__" not in data:
                return data, buffers
        except Exception as error:
            first = error
        buffers.clear()
    try:
        import cloudpickle
    except ImportError:
        if first is None:  # the other side may have it in its __main__, too
            raise pickle.PicklingError(
                "what __main__ defines goes by value, which needs the package cloudpickle"
            ) from None
        raise first
    return cloudpickle.dumps(obj, 5, buffer_callback=keep), buffers


def by_value():
    """Names of modules that were registered to go by value, too."""
    # Another thread may be importing it: then nothing was registered yet.
    names = getattr(sys.modules.get("cloudpickle"), "list_registry_pickle_by_value", None)
    return names() if names else ()


def loads(data, buffers):
    import pickle

    try:
        return pickle.loads(data, buffers=buffers)
    except ModuleNotFoundError as error:
        import platform

        raise ModuleNotFoundError(
            f"{error} on {platform.node()}, where a pickle needs it: install it there, load it "
            "with a preload, or send it along (cloudpickle.register_pickle_by_value)",
            name=error.name) from None


def refuse(*_):
    raise PermissionError("this worker takes no code from clients, and a pickle is code "
                          "(peach worker --no-push)")


def dump_exception(error):
    """The pickle of an exception, or None if it would not be itself again."""
    if not isinstance(error, Exception):
        return None  # SystemExit and its like are the task's, not the client's
    import pickle

    try:
        data, buffers = dumps(error)
        if buffers or len(data) > 65536:
            return None
        again = pickle.loads(data)
        return data if type(again).__qualname__ == type(error).__qualname__ else None
    except Exception:
        return None


CODES = {"bool": "?", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i",
         "uint32": "I", "int64": "q", "uint64": "Q", "float32": "f", "float64": "d"}


def as_array(view, dtype, shape):
    """An array over the memory of view: numpy's if it is there."""
    try:
        import numpy
    except ImportError:
        flat = view.cast("B").cast(CODES[dtype])
        return flat if len(shape) == 1 else flat.tolist()
    return numpy.frombuffer(view, dtype).reshape(shape)
