# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""What a task knows of itself."""
from __future__ import annotations

import sys
from typing import NamedTuple


class Task(NamedTuple):
    """The item that runs: its function's name, its number in the job (from 0), the host and
    slot that run it, the process, and how deep it is nested (0: a client's own)."""

    function: str
    item: int
    host: str
    slot: int
    pid: int
    depth: int


def current_task() -> Task | None:
    """The task that this code runs in; None outside of one."""
    executor = sys.modules.get("peach_bootstrap")
    told = executor.current_task() if executor is not None else None
    return Task(*told) if told else None


def waiting_address() -> int:
    """Where an executor is told that its task waits for others; 0 outside of one."""
    executor = sys.modules.get("peach_bootstrap")
    return executor.waiting_address() if executor is not None else 0


def depth() -> int:
    """How deep jobs are nested that are made here: 0, or one more than the task's own."""
    executor = sys.modules.get("peach_bootstrap")
    told = executor.told_current() if executor is not None else None
    return told[2] + 1 if told else 0
