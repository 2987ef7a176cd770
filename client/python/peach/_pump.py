# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""The thread that waits for the results of calls whose caller does not."""
from __future__ import annotations

import collections
import threading
import time
import weakref

from ._errors import NoFunction, exception_of
from ._future import Future

MOST = 4096  # results that are taken at a time
EVERYTHING = 1 << 62  # bytes of results that may wait for their reader
AHEAD_S = 0.05  # of work that is handed over before it is wanted


class Stream:
    """Calls of one function: an open job and the futures of its items."""

    def __init__(self, job):
        self.job = job
        self.waiting = collections.deque()  # (call, future) that can still be cancelled
        self.running = {}  # item: future
        self.next = 0
        self.slots = 1
        self.limit = 0
        self.taken, self.since = 0, time.monotonic()

    def hand_over(self, most):
        """Give the job as many calls as keep the fleet busy; the others can be cancelled."""
        limit = max(self.limit, self.slots + 1)
        limit = min(limit, most) if most else limit
        while self.waiting and len(self.running) < limit:
            call, future = self.waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                self.job.add(call)
            except Exception as error:
                future.set_exception(error)
                continue
            self.running[self.next] = future
            self.next += 1

    def take(self):
        """Give the futures what came; whether anything did."""
        if not self.running:
            return False
        rows = self.job.take(MOST, 0)
        if not rows:
            return False
        self.taken += len(rows)
        now = time.monotonic()
        if now - self.since > 0.001:
            self.limit = int(2 * AHEAD_S * self.taken / (now - self.since))
            self.taken, self.since = 0, now
            self.slots = max(1, self.job.progress()[4])
        for item, value, failure in rows:
            future = self.running.pop(item)
            if failure is None:
                future.set_result(value)
            else:
                error = exception_of(failure)
                future.set_exception(error)
                if isinstance(error, NoFunction) and error.status == "PEACH_E_NO_FUNCTION":
                    self.fail_waiting(error)  # as would each of them, a few at a time
        return True

    def fail(self, error):
        for future in self.running.values():
            future.set_exception(error)
        self.running.clear()
        self.fail_waiting(error)

    def fail_waiting(self, error):
        for _, future in self.waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(error)
        self.waiting.clear()


class Watch:
    """A job whose results go to a function, a list of (item, value, failure) at a time; None
    at the end, an exception if there will be none."""

    def __init__(self, job, tell):
        self.job = job
        self.tell = tell

    def take(self):
        rows = self.job.take(MOST, 0)
        if rows != []:
            self.tell(rows)
        return rows


class Pump:
    """Serves streams and watches of a client until it is closed or gone."""

    def __init__(self, session, most=0):
        self.session = session
        self.lock = threading.Lock()
        self.rest = threading.Condition(self.lock)  # told when it is idle
        self.streams = {}
        self.watches = []
        self.kept = []
        self.most = most  # calls at a time; 0: as many as there are slots
        self.closing = False
        self.ended = None  # why it takes no more work
        self.broken = False  # nor does any
        self.idle = True
        self.thread = threading.Thread(target=run, args=(weakref.ref(self), self.session),
                                       name="peach", daemon=True)
        self.thread.start()

    def submit(self, key, call):
        """A Future of a call: its arguments as hold_call gives them. key: its function's (name,
        code, form), whether it has keywords, and its depth."""
        future = Future()
        with self.lock:
            stream = self.streams.get(key)
            if stream is None or self.ended:
                stream = self.open(key)
            waiting = stream.waiting
            waiting.append((call, future))
            if len(waiting) == 1:
                self.idle = False
                self.session.wake()
        return future

    def open(self, key):
        self.check()
        name, code, form, keywords, depth = key
        job = self.session.job(name, code, None, spread=True, keywords=keywords, form=form,
                               unordered=True, buffer=EVERYTHING, depth=depth)
        stream = self.streams[key] = Stream(job)
        stream.slots = max(1, job.progress()[4])
        return stream

    def check(self):
        if self.ended:
            raise self.ended

    def watch(self, job, tell):
        with self.lock:
            self.check()
            self.idle = False
            self.watches.append(Watch(job, tell))
        self.session.wake()

    def keep(self, job):
        """Run a job to its end, whether its reader reads it or not."""
        with self.lock:
            self.check()
            self.idle = False
            self.kept.append(job)
        self.session.wake()

    def turn(self):
        """One look at everything; whether there may be more at once."""
        busy = False
        with self.lock:
            streams, watches = list(self.streams.values()), list(self.watches)
            kept = list(self.kept)
        for stream in streams:
            busy |= stream.take()
            with self.lock:
                stream.hand_over(self.most)
        for watch in watches:
            rows = watch.take()
            busy |= bool(rows)
            if rows is None:
                with self.lock:
                    self.watches.remove(watch)
        for job in kept:
            if job.over():
                with self.lock:
                    self.kept.remove(job)
        with self.lock:
            self.idle = not self.kept and not self.waits_for_calls()
            if self.idle:
                self.rest.notify_all()
        return busy

    def is_lazy(self):
        """Whether there is nothing but jobs that their readers serve as long as they read."""
        with self.lock:
            return not self.waits_for_calls()

    def waits_for_calls(self):
        """With the lock: whether there are futures to complete."""
        return bool(self.watches) or any(
            stream.waiting or stream.running for stream in self.streams.values())

    def wait_idle(self):
        """Until nothing is to be done any more."""
        with self.rest:
            while not self.idle and not self.broken:
                self.rest.wait()

    def end(self, error):
        """Take no more work: who brings some is told this."""
        with self.lock:
            self.ended = self.ended or error

    def cancel_waiting(self):
        with self.lock:
            for stream in self.streams.values():
                for _, future in stream.waiting:
                    if future.cancel():
                        future.set_running_or_notify_cancel()
                stream.waiting.clear()

    def fail(self, error):
        with self.lock:
            self.broken = True
            self.ended = self.ended or error
            streams, watches = list(self.streams.values()), self.watches
            self.streams, self.watches, self.kept = {}, [], []
            self.rest.notify_all()
        for stream in streams:
            stream.fail(error)
        for watch in watches:
            watch.tell(error)

    def close(self):
        self.closing = True
        if not self.session.closed:
            self.session.wake()
        if self.thread is not threading.current_thread():
            self.thread.join()


def run(reference, session):
    """The thread. It does not keep the pump alive."""
    while True:
        wakes = session.wakes
        pump = reference()
        if pump is None or pump.closing or session.closed:
            break
        try:
            busy = pump.turn()
            lazy = pump.is_lazy()
            pump = None
            if not busy:
                session.wait(None, wakes, lazy)
        except Exception as error:  # no broker for too long, or the client was closed
            pump = reference()
            if pump is not None and not pump.closing:
                pump.fail(error)
            return
    if pump is not None:
        pump.fail(RuntimeError("the client was closed"))
