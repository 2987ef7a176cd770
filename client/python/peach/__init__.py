# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""peach: parallel each across processes and hosts.

    import peach
    peach.init(4)                             # a fleet here; or peach.connect("tcp://host:5001")
    peach.peach(lambda x: x * x, range(10))   # every result, in order

Client (connect, init) maps functions over items; Executor is concurrent.futures', Pool is
multiprocessing's; peach.joblib registers a backend, peach.aio is for asyncio, peach.tsfresh
for tsfresh, peach.fresh extracts features of time series, peach.xval validates models: these
are imported when they are first used.
"""
from . import _peach
from ._client import Client, Options, tell_notice
from ._errors import (Cancelled, LimitError, NoBroker, NoFunction, PeachError, PreloadError,
                      RemoteError, RemoteTraceback, TaskLost, Timeout, error_of)
from ._executor import Executor
from ._fleet import connect, current, default, init, peach
from ._peach import Ref
from ._pool import Pool
from ._task import current_task, waiting_address
from ._pickle import as_array, dumps, loads

_peach.setup(error_of, tell_notice, as_array, dumps, loads)
if waiting_address():
    _peach.set_waiting(waiting_address())
del dumps, loads, error_of, as_array, tell_notice, waiting_address

__version__ = _peach.version
__all__ = ["Cancelled", "Client", "Executor", "LimitError", "NoBroker", "NoFunction", "Options",
           "PeachError", "Pool", "PreloadError", "Ref", "RemoteError", "RemoteTraceback",
           "TaskLost", "Timeout", "connect", "current", "current_task", "default", "init",
           "peach"]

_lazy = ("aio", "fresh", "joblib", "tsfresh", "xval")


def __getattr__(name):
    if name not in _lazy:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ImportError as error:  # of what it is for
        raise AttributeError(f"{__name__}.{name} cannot be imported: {error}") from error


def __dir__():
    return sorted({*globals(), *_lazy})
