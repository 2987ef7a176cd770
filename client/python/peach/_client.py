# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""The client: functions over items, on the fleet."""
from __future__ import annotations

import collections
import html
import math
import re
import sys
import threading
import time
import warnings
import weakref
from numbers import Integral, Real
from typing import Any, Callable, Iterable, Iterator

from . import _functions, _local, _peach
from ._errors import Timeout, exception_of
from ._functions import EXACT, OBJECT, Source
from ._future import Future
from ._peach import Held, hold_call, hold_each
from ._pump import EVERYTHING, Pump
from ._task import depth

Function = "Callable[..., Any] | str"
RANGES = {"chunk": (1, 1 << 20), "retries": (0, 1000), "priority": (0, 7), "weight": (1, 1000)}
SECONDS = {"timeout", "queue_timeout", "deadline"}
OPTIONS = {*RANGES, *SECONDS, "seed", "require", "retry_errors", "logs"}
TAKE = 4096  # results at a time
WARNING = re.compile(r"\w*Warning: ")
AHEAD = 4  # chunks of a lazy input that are given to the fleet before they are wanted
# Iterables that have their items: going over them changes none.
STORED = {list, tuple, set, frozenset, dict, type({}.keys()), type({}.values()), type({}.items()),
          collections.deque, range, bytearray}


class Client:
    """A connection to a fleet, for any number of threads.

    endpoints: "tcp://host:5001", several with commas between, tried in turn; by default
    $PEACH_BROKER or tcp://127.0.0.1:5001. timeout: seconds until one has to answer; then
    NoBroker is raised. patience: seconds for which work goes on when the broker is lost later,
    None for ever; then whoever waits gets NoBroker, and all futures do. insecure: allow
    addresses other than loopback, although nothing is encrypted (so does PEACH_INSECURE=1).

    Functions are callables, which go to the workers by value (with what they refer to), or
    names that a preload of the workers defines ("fnc", "multip.fnc"). Keyword arguments of
    the methods that run them are the job's options, see options().
    """

    def __init__(self, endpoints: str | None = None, timeout: float = 3.0, *,
                 patience: float | None = 30.0, insecure: bool = False):
        self._session = _peach.Session(endpoints, timeout, patience=patience, insecure=insecure)
        self._codes = _functions.Codes(self._session)
        self._pump_lock = threading.Lock()
        self._pump: Pump | None = None
        self._warned: set = set()
        self._fleet = None  # a LocalFleet that ends with this client
        self._close = weakref.finalize(self, self._session.close)

    # ---- jobs ----

    def _options(self, options: dict) -> dict:
        wrong = options.keys() - OPTIONS
        if wrong:
            raise TypeError(f"{', '.join(sorted(wrong))}: no such option (there are "
                            f"{', '.join(sorted(OPTIONS))})")
        options = {k: v for k, v in options.items() if v is not None and v is not False}
        for name, value in options.items():
            if name in SECONDS and not (isinstance(value, Real) and value > 0):
                raise ValueError(f"{name} {value!r} is not a number of seconds, more than 0")
            if name in RANGES:
                least, most = RANGES[name]
                if not (isinstance(value, Integral) and least <= value <= most):
                    raise ValueError(f"{name} {value!r} is not {least} to {most}")
        if isinstance(options.get("require"), str):
            options["require"] = [options["require"]]
        logs = options.get("logs")
        if logs is True:
            options["logs"] = self._show
        elif logs is not None and not callable(logs):
            raise TypeError(f"logs {logs!r} is neither True nor a function")
        return options

    def _show(self, item, host, pid, slot, text):
        """Print a task's line; a warning once."""
        if WARNING.match(text):
            if text in self._warned:
                return
            self._warned.add(text)
        print(f"[{host}/{slot} item {item}] {text}", file=sys.stderr, flush=True)

    def _job(self, function, items, *, spread=False, **more):
        """A job of items as they are now; lend=True leaves large arrays where they are."""
        name, code, form = self._codes(function)
        return self._session.job(name, code, items, spread=spread, form=form, depth=depth(),
                                 **more)

    def map(self, function: Function, *iterables: Iterable, return_exceptions: bool = False,
            vector: bool = False, wait: float | None = None, progress: Any = None,
            **options) -> list:
        """[function(x) for x in iterable], or function(x, y, ...) over several.

        The results come as one list, in the order of the items. The first item that failed
        raises its exception, and the others are cancelled; with return_exceptions it stands
        in its place. vector: results that are all ints, or all floats, come as one numpy
        array (int64, float64; shape (n,)). wait: seconds until Timeout is raised.
        progress: True for a bar on standard error (tqdm's if it is installed), or a function
        of (done, total).

        Large arrays of a list are not copied: no other thread may write to them meanwhile. What
        an iterator gives is taken as it is at that moment.
        """
        if not iterables:
            raise TypeError("map needs items")
        several = len(iterables) > 1
        items = zip(*iterables) if several else iterables[0]
        return self._run(function, items, several, all(map(is_stored, iterables)), options,
                         return_exceptions, vector, wait, progress)

    def starmap(self, function: Function, iterable: Iterable, *, return_exceptions: bool = False,
                vector: bool = False, wait: float | None = None, progress: Any = None,
                **options) -> list:
        """[function(*args) for args in iterable]; see map."""
        return self._run(function, iterable, True, is_stored(iterable), options,
                         return_exceptions, vector, wait, progress)

    def _run(self, function, items, spread, lend, options, *how):
        job = self._job(function, items, spread=spread, buffer=EVERYTHING, lend=lend,
                        **self._options(options))
        try:
            return self._collect(job, *how)
        finally:
            job.close()

    def _collect(self, job, return_exceptions, vector, wait, progress):
        end = math.inf if wait is None else time.monotonic() + wait
        tell = _progress(progress)
        results: list = []
        while True:
            if tell or end < math.inf:
                total, _, done, failed, _ = job.progress()
                left = end - time.monotonic()
                if tell:
                    tell(done + failed, total)
                    left = min(left, 0.1)
                if left <= 0:
                    raise Timeout(f"{total - done - failed} of {total} items are not done within "
                                  f"{wait} s")
            else:
                left = None
            if return_exceptions:
                if not self._take(job, results, left):
                    return results
                continue
            if vector:
                ended = job.wait(left)
                if ended and job.progress()[3] == 0:
                    return job.collect()
                if not ended:
                    continue
            some = job.values(left)
            if some is None:
                return results
            results += some[0]
            if some[1] is not None:
                job.cancel()
                raise exception_of(some[1])

    @staticmethod
    def _take(job, results, timeout):
        """More results, failures as exceptions; False after the last."""
        try:
            rows = job.take(TAKE, timeout)
        except Timeout:
            return True
        for _, value, failure in rows or ():
            results.append(value if failure is None else exception_of(failure))
        return rows is not None

    def imap(self, function: Function, *iterables: Iterable, return_exceptions: bool = False,
             **options) -> Iterator:
        """The results one by one, in order, of items that may have no end.

        Items are taken from an iterator as the fleet can use them, so neither they nor the
        results fill the memory, and are what they are then; those of a list, a tuple or an
        array are what they are now. An item that failed raises, and ends the iterator, unless
        return_exceptions.
        """
        return self._stream(function, iterables, False, return_exceptions, options)

    def imap_unordered(self, function: Function, *iterables: Iterable,
                       return_exceptions: bool = False, **options) -> Iterator:
        """The same as they finish."""
        return self._stream(function, iterables, True, return_exceptions, options)

    def _stream(self, function, iterables, unordered, return_exceptions, options):
        if not iterables:
            raise TypeError("imap needs items")
        several = len(iterables) > 1
        iterables = [held(function, i) for i in iterables]
        job = self._job(function, None, spread=several, unordered=unordered,
                        **self._options(options))
        return _stream(job, zip(*iterables) if several else iter(iterables[0]),
                       return_exceptions)

    def call(self, function: Function, /, *args, **keywords) -> Any:
        """function(*args, **keywords), once, on the fleet."""
        item = (*args, keywords) if keywords else args
        job = self._job(function, [item], spread=True, keywords=bool(keywords), lend=True)
        try:
            _, value, failure = job.take(1)[0]
        finally:
            job.close()
        if failure is not None:
            raise exception_of(failure)
        return value

    def submit(self, function: Function, /, *args, **keywords):
        """A concurrent.futures.Future of function(*args, **keywords), which gets the arguments as
        they are now."""
        return self._submit(self._get_pump(), function, args, keywords)

    def _submit(self, pump, function, args, keywords):
        if keywords:
            args = (*args, keywords)
        try:
            call = hold_call(args, form_of(function))
        except Exception as error:
            pump.check()
            return _failed(error)
        return self._submit_held(pump, function, call, bool(keywords))

    def _submit_held(self, pump, function, call, keywords):
        if type(call) is Held and call.refers:
            return self._submit_alone(pump, function, call, keywords)
        name, code, form = self._codes(function)
        return pump.submit((name, code, form, keywords, depth()), call)

    def _submit_alone(self, pump, function, call, keywords, **options):
        """In a job of its own: references are to be known when a job is made."""
        future = Future()
        job = self._job(function, [call], spread=True, keywords=keywords, **options)
        future.set_running_or_notify_cancel()

        def tell(rows):
            if isinstance(rows, BaseException):
                future.set_exception(rows)
            elif rows and rows[0][2] is None:
                future.set_result(rows[0][1])
            elif rows:
                future.set_exception(exception_of(rows[0][2]))

        pump.watch(job, tell)
        return future

    def _get_pump(self) -> Pump:
        with self._pump_lock:
            if self._pump is None:
                self._pump = Pump(self._session)
            return self._pump

    def options(self, **options) -> "Options":
        """This client with options for its jobs: client.options(retries=0).map(...).

        chunk: items a task (default: chosen by the time they take); retries: further
        attempts for an item whose executor or worker was lost (default 2); retry_errors: also
        of items that raised; timeout: seconds an item may run; queue_timeout: seconds a task
        may wait for a worker; deadline: seconds until what is unfinished fails; seed: gives
        each item a random state of its own (random, numpy.random), the same whatever runs it;
        priority: 0 to 7 among this client's jobs; weight: 1 to 1000, the share against other
        clients; require: "KEY=VALUE", or a list of them, labels that a worker must have; logs:
        True shows what the tasks print and log, line by line on standard error (each warning
        once), or a function of (item, host, pid, slot, text); at most 1 MiB an item.
        """
        return Options(self, self._options(options))

    # ---- values and the fleet ----

    def put(self, value: Any) -> "_peach.Ref":
        """Keep a value in the fleet; the Ref stands for it as an argument, and is sent instead.

        Each host gets it once, when a task there needs it; arrays are one memory for all of a
        host's executors, read-only. It is gone when nothing refers to the Ref any more.
        """
        return self._session.put(value)

    def init(self, slots: int | str | None = 0, preloads: Iterable[str] | str = (),
             timeout: float | None = 60) -> int:
        """Load preloads on all workers, now and later, and see that the fleet has slots.

        slots: 0 is as many as there are, "auto" one a core of this host (so is None), as for
        peach worker --slots auto. preloads: paths of Python files, "module:NAME", or .so
        plugins. Workers that are missing are started on this host. Returns the slots started,
        when all of them are ready. Raises PreloadError with the traceback of a preload that
        failed.
        """
        slots = _local.checked_slots(slots)
        preloads = [preloads] if isinstance(preloads, str) else [str(p) for p in preloads]
        started = 0
        if self._fleet is not None:
            started = max(0, slots - self.status()["slots"])
            if started:
                self._fleet.add(started)
        with _local.exported():
            self._session.init(slots if not started else 0, preloads, timeout)
        if started:
            self._wait_ready(slots, timeout)
            if preloads:
                self._session.init(slots, preloads, timeout)
        return started

    def preload(self, *preloads: str, timeout: float | None = 60) -> None:
        """Load preloads on all workers that there are and that will come."""
        self.init(0, preloads, timeout)

    def _wait_ready(self, slots, timeout):
        end = math.inf if timeout is None else time.monotonic() + timeout
        while sum(w["slots"] for w in self.status()["workers"] if w["state"] == "ready") < slots:
            self._fleet.check()
            if time.monotonic() > end:
                raise Timeout(f"not all of the {slots} slots were ready within {timeout} s")
            time.sleep(0.005)

    def status(self) -> dict:
        """What goes on: the broker's counts, and the lists workers, functions and clients."""
        return self._session.view(10)

    @property
    def slots(self) -> int:
        """Slots of the fleet: calls that run at a time."""
        return self.status()["slots"]

    def executor(self, max_workers: int | None = None, **more):
        """A concurrent.futures.Executor on this client; see peach.Executor."""
        from ._executor import Executor

        return Executor(max_workers, client=self, **more)

    def close(self) -> None:
        """End the connection, and what it runs; a fleet that init started ends, too."""
        with self._pump_lock:
            pump, self._pump = self._pump, None
        if pump is not None:
            pump.close()
        self._close()
        if self._fleet is not None:
            self._fleet.stop()
            self._fleet = None

    @property
    def closed(self) -> bool:
        return self._session.closed

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *unused) -> None:
        self.close()

    def __reduce__(self):
        raise TypeError("a peach client cannot be sent: a task makes one of its own "
                        "(peach.connect())")

    def __repr__(self) -> str:
        if self.closed:
            return "<peach.Client, closed>"
        try:
            view = self.status()
        except Exception as error:
            return f"<peach.Client, {error}>"
        return (f"<peach.Client {view['endpoint']}: {len(view['workers'])} workers, "
                f"{view['slots']} slots, {view['queued_tasks']} tasks queued>")

    def _repr_html_(self) -> str:
        if self.closed:
            return html.escape(repr(self))
        view = self.status()
        rows = "".join(
            f"<tr><td>{html.escape(w['host'])}</td><td>{w['pid']}</td><td>{w['slots']}</td>"
            f"<td>{w['tasks']}</td><td>{w['done']}</td><td>{w['failed']}</td>"
            f"<td>{html.escape(w['state'])}</td></tr>" for w in view["workers"])
        return (f"<b>peach</b> {html.escape(view['endpoint'])}: {view['slots']} slots, "
                f"{view['queued_tasks']} tasks queued<table><tr><th>host</th><th>pid</th>"
                "<th>slots</th><th>tasks</th><th>done</th><th>failed</th><th>state</th></tr>"
                f"{rows}</table>")


_noticed: set = set()


def tell_notice(text: str) -> None:
    """A worker's word about a job, as a warning, once."""
    if text not in _noticed:
        _noticed.add(text)
        warnings.warn(text, RuntimeWarning, stacklevel=3)


class Options:
    """A client with options for its jobs; see Client.options."""

    def __init__(self, client: Client, options: dict):
        self._client = client
        self._given = options

    def options(self, **options) -> "Options":
        return Options(self._client, {**self._given, **self._client._options(options)})

    def map(self, function, *iterables, **more):
        return self._client.map(function, *iterables, **{**self._given, **more})

    def starmap(self, function, iterable, **more):
        return self._client.starmap(function, iterable, **{**self._given, **more})

    def imap(self, function, *iterables, **more):
        return self._client.imap(function, *iterables, **{**self._given, **more})

    def imap_unordered(self, function, *iterables, **more):
        return self._client.imap_unordered(function, *iterables, **{**self._given, **more})

    def call(self, function, /, *args, **keywords):
        return self.submit(function, *args, **keywords).result()

    def submit(self, function, /, *args, **keywords):
        client = self._client
        call = (*args, keywords) if keywords else args
        return client._submit_alone(client._get_pump(), function, call, bool(keywords),
                                    **self._given)

    def __repr__(self):
        given = ", ".join(f"{k}={v!r}" for k, v in self._given.items())
        return f"<peach options {given} of {self._client!r}>"


def form_of(function) -> int:
    """How arguments travel that are for it: a function by name need not be Python's."""
    return EXACT if isinstance(function, str) and not isinstance(function, Source) else OBJECT


def is_stored(iterable) -> bool:
    return type(iterable) in STORED or is_array(iterable)


def is_array(thing) -> bool:
    return type(thing).__name__ == "ndarray"


def held(function, iterable, spread=False):
    """An iterable that has its items, with what they are now, for who goes over it later;
    spread: they are lists of arguments."""
    if is_array(iterable) and not iterable.dtype.hasobject:
        return iterable.copy()
    if not is_stored(iterable) or type(iterable) is range:
        return iterable
    return hold_each(iterable, form_of(function), spread)


def _failed(error):
    future = Future()
    future.set_running_or_notify_cancel()
    future.set_exception(error)
    return future


def _stream(job, items, return_exceptions):
    """Feeds the job as it is read."""
    try:
        given = 0
        more = True
        while True:
            total, _, done, failed, slots = job.progress()
            # What ran while we looked away was too little: twice as much, next time.
            want = max(AHEAD * max(slots, 1), 2 * (done + failed) // 16)
            while more and given - done - failed < min(want, 1 << 16):
                try:
                    job.add(next(items))
                    given += 1
                except StopIteration:
                    job.finish()
                    more = False
            rows = job.take(TAKE)
            if rows is None:
                return
            for _, value, failure in rows:
                if failure is not None and not return_exceptions:
                    raise exception_of(failure)
                yield value if failure is None else exception_of(failure)
    finally:
        job.close()


def _progress(progress):
    """A function of (done, total), or None."""
    if progress is None or progress is False:
        return None
    if callable(progress):
        return progress
    try:
        from tqdm.auto import tqdm
    except ImportError:
        return _bar
    bar = tqdm(total=0, unit="items")

    def tell(done, total):
        bar.total = total
        bar.update(done - bar.n)
        if done == total:
            bar.close()

    return tell


def _bar(done, total):
    if not sys.stderr.isatty():
        return
    width = 30
    full = width * done // max(total, 1)
    print(f"\r[{'#' * full}{'.' * (width - full)}] {done}/{total}",
          end="\n" if done == total else "", file=sys.stderr, flush=True)
