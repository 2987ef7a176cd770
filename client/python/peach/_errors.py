# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""What can go wrong, as exceptions.

A function that raised raises the same exception here, with the remote traceback as its
cause; everything else is a PeachError.
"""
from __future__ import annotations

import concurrent.futures
import pickle


class PeachError(Exception):
    """Something other than the function failed: status is the name of its code."""

    status = ""
    host = ""
    pid = 0
    attempts: list[tuple[str, int, str]] = []  # that were lost: host, pid, cause


class NoBroker(PeachError, ConnectionError):
    """No broker answered."""


class NoFunction(PeachError, LookupError):
    """No worker has the function."""


class PreloadError(PeachError, ImportError):
    """A preload could not be loaded; the message has its traceback."""


class Timeout(PeachError, concurrent.futures.TimeoutError):
    """It was not done in time."""


class Cancelled(PeachError, concurrent.futures.CancelledError):
    """The item, or its job, was cancelled."""


class TaskLost(PeachError):
    """What ran the item died, as often as it was tried; see attempts."""


class LimitError(PeachError, ValueError):
    """A value is too large; the message says which limit it is."""


class RemoteError(PeachError):
    """An exception that could not be sent as itself: type, message and traceback are its."""

    type = ""
    message = ""
    traceback = ""


class RemoteTraceback(Exception):
    """The cause of an exception that was raised elsewhere: where, and its traceback."""

    def __init__(self, text: str):
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return "\n" + self.text


NAMES = {
    -1: "PEACH_E_ARGUMENT", -2: "PEACH_E_MEMORY", -3: "PEACH_E_SYSTEM", -4: "PEACH_E_PROTOCOL",
    -5: "PEACH_E_VERSION", -6: "PEACH_E_LIMIT", -7: "PEACH_E_TIMEOUT", -8: "PEACH_E_NO_BROKER",
    -9: "PEACH_E_REFUSED", -10: "PEACH_E_NO_SESSION", -11: "PEACH_E_NO_FUNCTION",
    -12: "PEACH_E_RAISED", -13: "PEACH_E_DIED", -14: "PEACH_E_LOST", -15: "PEACH_E_CANCELLED",
    -16: "PEACH_E_PRELOAD", -17: "PEACH_E_TYPE", -18: "PEACH_E_JSON", -19: "PEACH_E_UNSUPPORTED",
}
CLASSES = {-6: LimitError, -7: Timeout, -8: NoBroker, -11: NoFunction, -13: TaskLost,
           -14: TaskLost, -15: Cancelled, -16: PreloadError}
RAISED = -12


def error_of(status: int, text: str) -> Exception:
    """The exception for a status of the library."""
    if status == -2:
        return MemoryError(text)
    if status == -1:
        return ValueError(text)
    error = CLASSES.get(status, PeachError)(text)
    error.status = NAMES.get(status, str(status))
    return error


def exception_of(failure) -> BaseException:
    """The exception for an item's failure, as the extension tells it."""
    if isinstance(failure, BaseException):  # the result came, and could not be unpickled
        error = RemoteError(f"the result cannot be unpickled here: {_said(repr, failure)}")
        error.status, error.type = "PEACH_E_TYPE", type(failure).__qualname__
        error.message = _said(str, failure)
        error.__cause__ = failure
        return error
    status, kind, message, traceback, host, pid, attempts, pickled = failure
    cause = RemoteTraceback(f"on {host}, process {pid}:\n{traceback}") if traceback else None
    if status == RAISED:
        error = _unpickled(pickled)
        if error is None:
            error = RemoteError(f"{kind}: {message}" if kind else message)
            error.type, error.message, error.traceback = kind, message, traceback
    else:
        error = error_of(status, f"{kind}: {message}" if kind else message)
    if isinstance(error, PeachError):
        error.status = NAMES.get(status, str(status))
        error.host, error.pid, error.attempts = host, pid, attempts
    error.__cause__ = cause
    return error


def _said(how, error) -> str:
    try:
        return how(error)
    except Exception as broken:
        return f"<{how.__name__}() of {type(error).__name__} raised {type(broken).__name__}>"


def _unpickled(pickled):
    try:
        error = pickle.loads(pickled) if pickled else None
    except Exception:  # its class is not here
        return None
    return error if isinstance(error, Exception) else None
