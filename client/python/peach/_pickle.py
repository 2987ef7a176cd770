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


def dumps(obj, lend=True):
    """(pickle, [buffer, ...]); the buffers are contiguous. Those of arrays are lent: they are as
    they are now until obj changes. What other objects lend is copied, for nobody knows what
    else they use that memory for. lend=False: all are in the pickle."""
    import pickle

    first = None
    if not by_value():
        try:
            try:
                data = pickle.dumps(obj, 5, buffer_callback=is_small if lend else None)
                buffers = []
            except LargeBuffer:
                data, buffers = dump_lending(pickle.Pickler, obj)
            if b"__main__" not in data:
                return data, buffers
        except Exception as error:
            first = error
    try:
        import cloudpickle
    except ImportError:
        cloudpickle = None
    try:
        if cloudpickle is not None:
            return (dump_lending(cloudpickle.Pickler, obj) if lend
                    else (cloudpickle.dumps(obj, 5), []))
        if first is not None:
            raise first
        raise pickle.PicklingError(  # the other side may have it in its __main__, too
            "what __main__ defines goes by value, which needs the package cloudpickle")
    finally:
        first = None  # its traceback has this frame: they would keep obj until it is collected


class LargeBuffer(Exception):
    """A pickle is worth the longer way, on which its buffers are not copied."""


def is_small(buffer):
    if buffer.raw().nbytes >= LEAST_BUFFER:
        raise LargeBuffer
    return True


def dump_lending(make, obj):
    import copyreg
    import io
    import pickle

    buffers = []
    array = None  # the buffer of the one that is being pickled

    def reduce_array(obj):
        nonlocal array
        reduced = obj.__reduce_ex__(5)
        array = reduced[1][0]
        return reduced

    def keep(buffer):
        raw = buffer.raw()
        if raw.nbytes < LEAST_BUFFER:
            return True
        buffers.append(raw if buffer is array else bytes(raw))
        return False

    with io.BytesIO() as file:
        pickler = make(file, 5, buffer_callback=keep)
        table = dict(getattr(pickler, "dispatch_table", copyreg.dispatch_table))
        ndarray = getattr(sys.modules.get("numpy"), "ndarray", None)
        if ndarray is not None:
            table.setdefault(ndarray, reduce_array)
        # What the pickler reads: cloudpickle's class has another attribute of that name.
        pickle.Pickler.dispatch_table.__set__(pickler, table)
        pickler.dump(obj)
        return file.getvalue(), buffers


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
