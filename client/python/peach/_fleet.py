# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""The process's own client: what peach.init and peach.connect made last."""
from __future__ import annotations

import os
import threading
import weakref
from typing import Callable, Iterable

from ._client import Client
from ._local import LocalFleet, checked_slots
from ._task import depth

_lock = threading.Lock()
_default: Client | None = None
_last: Callable[[], Client | None] = lambda: None  # a weak reference, if the user has it


def connect(endpoints: str | None = None, timeout: float = 3.0, *, patience: float | None = 30.0,
            insecure: bool = False) -> Client:
    """A Client of the fleet at these endpoints; see Client."""
    global _last
    client = Client(endpoints, timeout, patience=patience, insecure=insecure)
    _last = weakref.ref(client)
    return client


def start(slots: int | str | None = 0, preloads: Iterable[str] = (), how: str = "spawn",
          timeout: float | None = 60, patience: float | None = 30.0) -> Client:
    """A Client of a new fleet on this host, which ends with it."""
    slots = checked_slots(slots) or checked_slots("auto")
    fleet = LocalFleet()
    try:
        fleet.add(slots, preloads, how)
        client = Client(fleet.endpoint, 10, patience=patience)
        client._fleet = fleet
        client._wait_ready(slots, timeout)
    except BaseException:
        fleet.stop()
        raise
    return client


def init(slots: int | str | None = "auto", preloads: Iterable[str] | str = (), *,
         start: str = "spawn", timeout: float | None = 60, patience: float | None = 30.0,
         insecure: bool = False) -> Client:
    """See that there is a fleet of slots with the preloads; the Client of it.

    With $PEACH_BROKER it is the fleet there, grown on this host by the workers that it lacks.
    Otherwise it is this process's own, which the first call starts and later ones grow; it
    ends with the process. slots: "auto" is one a core (so are 0 and None), as for peach worker
    --slots auto. preloads: paths of Python files, "module:NAME", or .so plugins. start: "fork"
    has the preloads loaded once and copied. patience, insecure: Client's, when this call makes
    one. In a task it is the fleet that runs the task, as it is.
    """
    global _default
    if depth() > 0:
        return current()
    preloads = [preloads] if isinstance(preloads, str) else [str(p) for p in preloads]
    with _lock:
        if _default is None or _default.closed:
            if os.environ.get("PEACH_BROKER"):
                _default = Client(patience=patience, insecure=insecure)
            else:
                _default = start_fleet(slots, preloads, start, timeout, patience)
                return _default
        _default.init(checked_slots(slots) or "auto", preloads, timeout)
        return _default


start_fleet = start


def default() -> Client | None:
    """The client of peach.init, or the last one of peach.connect; None when there is none."""
    if _default is not None and not _default.closed:
        return _default
    client = _last()
    return client if client is not None and not client.closed else None


def known() -> Client | None:
    """The default client, or the one of $PEACH_BROKER; None when there is neither."""
    global _last
    client = default()
    if client is not None or not os.environ.get("PEACH_BROKER"):  # in a task it is its worker's
        return client
    with _lock:  # threads that ask at once get one client
        client = default()
        if client is None:
            client = Client()
            _last = lambda: client  # noqa: E731: nobody else may keep it
    return client


def current() -> Client:
    """The default client; the one of $PEACH_BROKER, or a new fleet, if there is none."""
    return known() or init()


def peach(function, *iterables, **options) -> list:
    """function over the items of iterables on the fleet; see Client.map."""
    return current().map(function, *iterables, **options)
