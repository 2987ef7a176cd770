# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""multiprocessing.Pool on a fleet."""
from __future__ import annotations

import concurrent.futures
import multiprocessing
import threading
from typing import Callable, Iterable

from ._executor import Executor


class AsyncResult:
    """What will come of a call or a map; as multiprocessing has it."""

    def __init__(self, future, callback=None, error_callback=None):
        self._future = future

        def tell(done):
            error = done.exception()
            if error is None and callback is not None:
                callback(done.result())
            elif error is not None and error_callback is not None:
                error_callback(error)

        future.add_done_callback(tell)

    def get(self, timeout: float | None = None):
        """The result, or its exception; multiprocessing.TimeoutError when it is not there."""
        try:
            return self._future.result(timeout)
        except concurrent.futures.TimeoutError:
            if self._future.done():  # the function's own
                raise
            raise multiprocessing.TimeoutError from None

    def wait(self, timeout: float | None = None) -> None:
        concurrent.futures.wait([self._future], timeout)

    def ready(self) -> bool:
        return self._future.done()

    def successful(self) -> bool:
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._future.exception() is None


class Pool:
    """multiprocessing.Pool with the same methods, on a fleet.

    client, processes, initializer, initargs: as Executor's client, max_workers, ... has them.
    Functions and arguments need not be importable.
    """

    def __init__(self, processes: int | None = None, initializer: Callable | None = None,
                 initargs: tuple = (), *, client=None):
        self._executor = Executor(processes, client=client, initializer=initializer,
                                  initargs=initargs)
        self._closed = False

    def _check(self):
        if self._closed:
            raise ValueError("Pool not running")

    def apply(self, func, args=(), kwds={}):
        return self.apply_async(func, args, kwds).get()

    def apply_async(self, func, args=(), kwds={}, callback=None, error_callback=None):
        self._check()
        return AsyncResult(self._executor.submit(func, *args, **kwds), callback, error_callback)

    def map(self, func, iterable: Iterable, chunksize: int | None = None) -> list:
        self._check()
        return list(self._executor.map(func, iterable, chunksize=chunksize or 1))

    def starmap(self, func, iterable: Iterable, chunksize: int | None = None) -> list:
        return self.starmap_async(func, iterable, chunksize).get()

    def map_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        self._check()
        return self._later(lambda: self._executor.map(func, iterable, chunksize=chunksize or 1),
                           callback, error_callback)

    def starmap_async(self, func, iterable, chunksize=None, callback=None, error_callback=None):
        self._check()
        return self._later(lambda: self._executor._starmap(func, iterable, chunksize or 1),
                           callback, error_callback)

    def _later(self, start, callback, error_callback):
        results = start()
        future: concurrent.futures.Future = concurrent.futures.Future()

        def collect():
            try:
                future.set_result(list(results))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=collect, name="peach-map", daemon=True).start()
        return AsyncResult(future, callback, error_callback)

    def imap(self, func, iterable: Iterable, chunksize: int = 1):
        """The results one by one; items are taken as they can be used."""
        self._check()
        return self._executor._lazy(func, iterable, False, chunksize)

    def imap_unordered(self, func, iterable: Iterable, chunksize: int = 1):
        self._check()
        return self._executor._lazy(func, iterable, True, chunksize)

    def close(self) -> None:
        """Take no more work."""
        self._closed = True

    def terminate(self) -> None:
        """Take no more work, and give up what there is."""
        self._closed = True
        self._executor._abandon()

    def join(self) -> None:
        """Wait for what there is; close() or terminate() comes first."""
        if not self._closed:
            raise ValueError("Pool is still running")
        self._executor.shutdown()

    def __enter__(self) -> "Pool":
        self._check()
        return self

    def __exit__(self, *unused) -> None:
        self.terminate()

    def __repr__(self) -> str:
        return f"<peach.Pool on {self._executor._client!r}>"
