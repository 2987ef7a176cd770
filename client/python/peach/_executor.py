# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""concurrent.futures on a fleet."""
from __future__ import annotations

import concurrent.futures
import itertools
import threading
import time
from typing import Any, Callable, Iterable

from . import _fleet
from ._client import Client
from ._errors import exception_of
from ._functions import Source
from ._pickle import dumps
from ._pump import EVERYTHING, Pump

SHUT = "cannot schedule new futures after shutdown"

# Runs the initializer once in a process for each executor that has one.
INITIALIZED = Source('''
def run(token, initial, function, /, *args, **keywords):
    import builtins
    import pickle
    done = builtins.__dict__.setdefault("__peach_initialized__", {})
    if token not in done:
        try:
            initializer, initargs = pickle.loads(initial)
            initializer(*initargs)
            done[token] = None
        except BaseException as error:
            done[token] = f"{type(error).__name__}: {error}"
    if done[token] is not None:
        return False, done[token]
    return True, function(*args, **keywords)
''')


class Executor(concurrent.futures.Executor):
    """concurrent.futures.Executor on a fleet.

    client: the client whose fleet it uses; by default the one of peach.init or
    peach.connect, the fleet of $PEACH_BROKER (in a task its own), or a new one of max_workers
    on this host that ends with the executor.
    max_workers: calls at a time (default: all slots of the fleet). initializer(*initargs)
    runs once in each process before its first call of this executor.

    A call that has begun cannot be cancelled; a few calls more than there are slots count as
    begun, so that none is idle. Functions go by value, arguments by pickle: both may be
    lambdas and closures.
    """

    def __init__(self, max_workers: int | None = None, *, client: Client | None = None,
                 initializer: Callable | None = None, initargs: tuple = ()):
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        self._initial = None
        if initializer is not None:
            self._initial, _ = dumps((initializer, initargs), lend=False)
        client = client or _fleet.known()
        self._owned = client is None
        self._client = client or _fleet.start(max_workers or 0)
        self._token = f"{id(self)}-{time.time_ns()}"
        self._pump = Pump(self._client._session, max_workers or 0)

    def submit(self, fn: Callable, /, *args, **kwargs) -> concurrent.futures.Future:
        """Schedule fn(*args, **kwargs), with the arguments as they are now; a Future of its
        result."""
        if self._initial is None:
            return self._client._submit(self._pump, fn, args, kwargs)
        self._pump.check()
        return self._unwrap(self._client._submit(
            self._pump, INITIALIZED, (self._token, self._initial, fn, *args), kwargs))

    def _unwrap(self, inner):
        """The future of what a call behind an initializer gives."""
        future = _Behind(inner)

        def tell(ended):
            if ended.cancelled():
                concurrent.futures.Future.cancel(future)
                future.set_running_or_notify_cancel()
                return
            error = ended.exception()
            if error is None and not ended.result()[0]:
                error = concurrent.futures.BrokenExecutor(
                    f"an initializer failed: {ended.result()[1]}")
                self._pump.end(error)
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(ended.result()[1])

        inner.add_done_callback(tell)
        return future

    def map(self, fn: Callable, *iterables: Iterable, timeout: float | None = None,
            chunksize: int = 1):
        """An iterator of fn's results, in the order of the items, which are all taken now.

        chunksize: items a task; the default lets peach choose by their time. Raises
        TimeoutError when a result is not there timeout seconds after the call.
        """
        if chunksize < 1:
            raise ValueError("chunksize must be >= 1.")
        if self._initial is not None:
            return super().map(fn, *iterables, timeout=timeout, chunksize=chunksize)
        several = len(iterables) != 1
        items = zip(*iterables) if several else iter(iterables[0])
        return self._run(fn, items, several, chunksize, timeout)

    def _starmap(self, fn, calls, chunksize):
        if self._initial is not None:
            return super().map(lambda args: fn(*args), calls, chunksize=chunksize)
        return self._run(fn, calls, True, chunksize, None)

    def _run(self, fn, items, spread, chunksize, timeout):
        end = None if timeout is None else time.monotonic() + timeout
        self._pump.check()
        job = self._client._job(fn, items, spread=spread, buffer=EVERYTHING,
                                **({"chunk": chunksize} if chunksize > 1 else {}))
        self._pump.keep(job)
        return _results(job, end)

    def _lazy(self, fn, iterable, unordered, chunksize):
        """Results of items that are taken as they can be used."""
        if self._initial is not None:
            return iter(super().map(fn, iterable))
        stream = self._client.imap_unordered if unordered else self._client.imap
        return stream(fn, iterable, **({"chunk": chunksize} if chunksize > 1 else {}))

    def _abandon(self):
        """Shut down without waiting for anything."""
        self._pump.end(RuntimeError(SHUT))
        self._pump.cancel_waiting()
        self._pump.close()
        if self._owned:
            self._client.close()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those there are, or cancel what has not begun."""
        self._pump.end(RuntimeError(SHUT))
        if cancel_futures:
            self._pump.cancel_waiting()
        if wait:
            self._finish()
        else:
            threading.Thread(target=self._finish, name="peach-shutdown").start()

    def _finish(self):
        self._pump.wait_idle()
        self._pump.close()
        if self._owned:
            self._client.close()

    def __repr__(self) -> str:
        return f"<peach.Executor on {self._client!r}>"


class _Behind(concurrent.futures.Future):
    """A future whose call is another future's."""

    def __init__(self, inner):
        super().__init__()
        self._inner = inner

    def cancel(self):
        return self._inner.cancel()

    def running(self):
        return self._inner.running()


def _results(job, end):
    """Results as they come: the lists of them one after another, at the speed of C."""
    return itertools.chain.from_iterable(_lists(job, end))


def _lists(job, end):
    try:
        while True:
            left = None if end is None else max(0.0, end - time.monotonic())
            some = job.values(left)
            if some is None:
                return
            if not some[0] and some[1] is None:
                raise concurrent.futures.TimeoutError()
            yield some[0]
            if some[1] is not None:
                raise exception_of(some[1])
    finally:
        job.close()
