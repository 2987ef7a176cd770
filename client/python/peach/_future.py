# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Futures that are cheap until somebody waits for them.

A concurrent.futures.Future has a condition, with a lock and queues: 2 KB each, made for
every call and used by few. Here it is made when it is first asked for; until then the few
steps of a future's life happen under one lock that all share. All else is the library's.
"""
from __future__ import annotations

import concurrent.futures
import threading
from concurrent.futures._base import FINISHED, PENDING, RUNNING

_lock = threading.Lock()  # of futures without a condition, and of its making


class Future(concurrent.futures.Future):
    """concurrent.futures.Future, and one in every respect."""

    _state = PENDING
    _result = None
    _exception = None

    def __init__(self):
        pass  # the library's would make the condition

    @property
    def _condition(self):
        """Whoever needs it holds it while the future changes: see _alone."""
        made = self.__dict__.get("_made")
        if made is None:
            with _lock:
                if "_made" not in self.__dict__:
                    self._waiters = []
                    self._done_callbacks = []
                    self._made = threading.Condition()
                made = self._made
        return made

    def _alone(self, before, state, result=None, exception=None) -> bool:
        """Go from one state to another if there is no condition, so that nobody waits."""
        with _lock:
            if "_made" in self.__dict__ or self._state != before:
                return False
            self._result, self._exception = result, exception
            self._state = state
            return True

    def set_running_or_notify_cancel(self):
        return self._alone(PENDING, RUNNING) or super().set_running_or_notify_cancel()

    def set_result(self, result):
        if not self._alone(RUNNING, FINISHED, result):
            super().set_result(result)

    def set_exception(self, exception):
        if not self._alone(RUNNING, FINISHED, None, exception):
            super().set_exception(exception)

    def done(self):
        return self._state == FINISHED or super().done()

    def result(self, timeout=None):
        if self._state != FINISHED:
            return super().result(timeout)
        if self._exception is None:
            return self._result
        try:
            raise self._exception
        finally:
            self = None  # the traceback is not to keep it

    def exception(self, timeout=None):
        return self._exception if self._state == FINISHED else super().exception(timeout)
