# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""A broker and workers of this process's own: they end with it."""
from __future__ import annotations

import atexit
import concurrent.futures
import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading

from ._errors import PeachError, PreloadError

HERE = pathlib.Path(__file__).resolve().parent


def program(name: str) -> str:
    """The path of a program of peach: $PEACH_BIN, this package's own, or on PATH."""
    folders = [os.environ.get("PEACH_BIN"), HERE / "programs" / "bin", HERE.parents[1] / "bin"]
    for folder in folders:
        if folder and os.access(pathlib.Path(folder) / name, os.X_OK):
            return str(pathlib.Path(folder) / name)
    found = shutil.which(name)
    if not found:
        raise FileNotFoundError(f"{name} is neither with this package nor on PATH: install peach "
                                "(README), or connect to a broker that runs elsewhere")
    return found


MOST_SLOTS = 1024


def checked_slots(slots: int | str | None) -> int:
    """The number; "auto" and None are one a core that this process may use."""
    if slots in ("auto", None):
        return min(len(os.sched_getaffinity(0)), MOST_SLOTS)
    if not (isinstance(slots, int) and 0 <= slots <= MOST_SLOTS):
        raise ValueError(f"slots {slots!r} is not 0 to {MOST_SLOTS}, nor \"auto\"")
    return slots


# Children end when the thread that started them ends: so it is one that stays.
_starter = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="peach-start")


def _start(args, **more):
    return _starter.submit(subprocess.Popen, args, stdin=subprocess.DEVNULL,
                           process_group=0, **more).result()


class LocalFleet:
    """A broker on a free port of 127.0.0.1, and workers that are added to it."""

    def __init__(self):
        reading, writing = os.pipe()
        self.workers = []
        self.pid = os.getpid()
        try:
            self.broker = _start([program("peach-broker"), "--bind", "tcp://127.0.0.1:*",
                                  "--ready-fd", str(writing), "--exit-with-parent"],
                                 pass_fds=(writing,))
        finally:
            os.close(writing)
        with open(reading) as pipe:
            self.endpoint = pipe.readline().strip()
        if not self.endpoint:
            raise PeachError(f"the broker did not start (exit status {self.broker.wait()})")
        atexit.register(self.stop)

    def add(self, slots: int, preloads=(), start: str = "spawn"):
        """Start a worker with that many slots; it loads the preloads."""
        args = [program("peach-worker"), "--connect", self.endpoint, "--slots", str(slots),
                "--start", start, "--strict", "--exit-with-parent"]
        for preload in preloads:
            args += ["--preload", preload]
        self.workers.append(_start(args, env={**os.environ, **variables()}))

    def check(self):
        """Raise when a program of the fleet has ended."""
        for process in self.workers:
            if process.poll() is not None:
                raise PreloadError("a worker did not start, or could not load its preloads; it "
                                   "said why on standard error")
        if self.broker.poll() is not None:
            raise PeachError(f"the broker has ended (exit status {self.broker.returncode})")

    def stop(self):
        if os.getpid() != self.pid:  # a forked child's copy
            return
        atexit.unregister(self.stop)
        for process in [*self.workers, self.broker]:
            for _ in range(2):  # the second one ends them at once
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
            try:
                process.wait(3)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.workers = []


def variables():
    """Executors run as the Python that this is (its virtual environment, say), and find the
    modules that it finds, if it is of the version that they embed."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    path = os.pathsep.join(folder or os.getcwd() for folder in sys.path)
    return {"PEACH_CLIENT_PYTHON": f"{version}:{sys.executable or ''}",
            "PEACH_CLIENT_PATH": f"{version}:{path}"}


_exporting = threading.Lock()


@contextlib.contextmanager
def exported():
    """Workers that libpeach starts meanwhile are this package's, with its variables."""
    ours = variables()
    with contextlib.suppress(FileNotFoundError):  # who needs the program is told
        ours["PEACH_BIN"] = os.path.dirname(program("peach-worker"))
    with _exporting:
        before = {name: os.environ.get(name) for name in ours}
        os.environ.update(ours)
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def main():
    """The command peach of an installed package."""
    path = program("peach")
    os.execv(path, [path, *sys.argv[1:]])
