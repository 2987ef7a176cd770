"""The real programs: started on loopback and a free port, everything bounded in time,
everything gone afterwards. It needs no pytest: chaos and whoever runs it by hand have none."""
import contextlib
import errno
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ.get("PEACH_BIN", ROOT / "build" / "release" / "bin"))
EXAMPLES = ROOT / "client" / "examples"
HERE = pathlib.Path(__file__).resolve().parent
# As a user has it: with it, stale .pyc files would go unnoticed.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# Sanitizers and valgrind make everything slower.
SLOW = float(os.environ.get("PEACH_SLOW", "1"))
# A sanitizer has memory, threads and symbols of its own.
SANITIZED = "asan" in str(BIN) or "tsan" in str(BIN)
# PEACH_FULL=1 runs the long cases at full length; CI runs a share of each.
FULL = bool(os.environ.get("PEACH_FULL"))
# Nobody's configuration.
os.environ["XDG_CONFIG_HOME"] = "/nonexistent"
os.environ.pop("PEACH_CONFIG", None)


def free_port():
    """Of those that the kernel gives to no connection: it is still free when it is bound."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", port))
            return port


def peach(*args, timeout=60, stdin=None, env=None, check=None, cwd=None):
    """Run the command; with check, expect this exit status."""
    done = subprocess.run(
        [str(BIN / "peach"), *map(str, args)],
        input=stdin,
        stdin=None if stdin is not None else subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout * SLOW,
        env={**os.environ, **(env or {})},
        cwd=cwd,
    )
    if check is not None:
        assert done.returncode == check, (done.returncode, done.stdout, done.stderr)
    return done


def driver(*args, env):
    """Run tests/integration/driver.c; the numbers that it prints."""
    done = subprocess.run([str(BIN.parent / "tests" / "driver"), *map(str, args)],
                          capture_output=True, text=True, timeout=120 * SLOW,
                          env={**os.environ, **env})
    assert done.returncode == 0, done.stderr
    return [float(x) for x in done.stdout.split()]


def memory(pid, what="VmRSS"):
    """Resident memory of a process in MiB: VmRSS now, VmHWM at most so far."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) / 1024
    return 0


class Proxy:
    """A TCP connection's middle: it counts, breaks, and swallows."""

    def __init__(self, endpoint):
        self.target = tuple(endpoint.removeprefix("tcp://").split(":"))
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.bytes = 0
        self.frozen = set()  # half open: what comes is swallowed, no end is told
        self.paused = False  # what comes waits
        self.refusing = False
        self.pairs = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
                far = socket.create_connection(self.target)
            except OSError:
                if self.listener.fileno() < 0:
                    return
                continue
            if self.refusing:
                near.close()
                far.close()
                continue
            self.pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self.pump, args=(one, other), daemon=True).start()

    def pump(self, one, other):
        try:
            while data := one.recv(1 << 16):
                self.bytes += len(data)
                while self.paused:
                    time.sleep(0.01)
                if one not in self.frozen:
                    other.sendall(data)
        except OSError:
            pass
        if one in self.frozen:
            return
        for end in (one, other):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def freeze(self):
        """The connections that there are become half open; new ones work."""
        self.frozen |= set(self.pairs)

    def cut(self):
        """Break every connection; new ones work unless it is refusing."""
        pairs, self.pairs = self.pairs, []
        for end in pairs:
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it broke by itself

    def close(self):
        self.listener.close()
        self.refusing = True
        self.cut()


def python():
    """The command of a Python that has the package of the build."""
    package = BIN.parent / "python"
    extension = (package / "peach" / "_peach.so").read_bytes()
    command = ["env", f"PYTHONPATH={package}"]
    for kind in ("asan", "tsan"):
        if f"__{kind}_init".encode() in extension:  # Python itself is not sanitized
            library = subprocess.run(["gcc", f"-print-file-name=lib{kind}.so"], check=True,
                                     capture_output=True, text=True).stdout.strip()
            command += [f"LD_PRELOAD={library}", "ASAN_OPTIONS=detect_leaks=0:handle_segv=0"]
    return [*command, sys.executable]


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


class Process:
    """A program of ours, with its standard error kept."""

    def __init__(self, *args, env=None, prefix=(), stdin=None, stdout=None, stderr=None):
        self.log = open(os.memfd_create("log"), "w+b", buffering=0)
        self.process = subprocess.Popen(
            [*prefix, *map(str, args)],
            stdin=stdin or subprocess.DEVNULL,
            stdout=stdout or self.log,
            stderr=stderr or self.log,
            env={**os.environ, **(env or {})},
        )
        self.pid = self.process.pid

    def said(self):
        return os.pread(self.log.fileno(), 1 << 20, 0).decode(errors="replace")

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, timeout=20):
        return self.process.wait(timeout * SLOW)

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGKILL):
                self.process.send_signal(number)
                try:
                    self.process.wait(3 * SLOW)
                    break
                except subprocess.TimeoutExpired:
                    pass
        self.process.wait()
        self.log.close()


def stat(pid):
    """What the kernel tells of a process, from its state on: field 3 of proc(5) is the first."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


def cpu_seconds(pid):
    """That it has used, user and system."""
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(pid):
    """Of a process: Z of one that has ended and was not collected; "gone"."""
    try:
        return stat(pid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def is_program(pid, name):
    """Whether the process runs it: a number may be anybody's, and one that was just forked is
    still its parent."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text() == f"{name}\n"
    except OSError:
        return False


class Fleet:
    """A broker, and what is started against it."""

    def __init__(self, *options):
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.env = {"PEACH_BROKER": self.endpoint}
        self.processes = []
        self.options = options
        self.broker = None
        self.start_broker()

    def start_broker(self):
        self.broker = self.start("peach-broker", "--bind", self.endpoint, *self.options)
        until(lambda: "listening" in self.broker.said(), 10)

    def lose_broker(self):
        """It is killed, and another one takes its place."""
        self.broker.signal(signal.SIGKILL)
        self.broker.wait()
        self.processes.remove(self.broker)
        self.start_broker()

    def start(self, program, *args, **more):
        process = Process(BIN / program, *args, env=self.env, **more)
        self.processes.append(process)
        return process

    def worker(self, slots=1, *preloads, args=()):
        """Start a worker and wait until it is ready, or has ended."""
        options = [x for p in preloads for x in ("-l", p)]
        process = self.start("peach-worker", "--slots", slots, *options, *args)
        until(lambda: process.process.poll() is not None or
              any(w["pid"] == process.pid and w["state"] == "ready" for w in self.workers()), 30)
        return process

    def __call__(self, *args, **more):
        return peach(*args, env=self.env, **more)

    def view(self):
        return lines(self("status", "--json", check=0))[0]

    def workers(self):
        return self.view()["workers"]

    def count_ready(self):
        return sum(w["state"] == "ready" for w in self.workers())

    def stop(self):
        # Workers that peach init started are nobody's children: they leave when told.
        if self.broker.process.poll() is None:
            try:
                started = {p.pid for p in self.processes}
                left = [w["pid"] for w in self.workers() if w["pid"] not in started]
                for pid in left:
                    if is_program(pid, "peach-worker"):  # a peer by hand may say any number
                        os.kill(pid, signal.SIGKILL)
            except Exception as error:
                print("at the end:", error, file=sys.stderr)
        for process in reversed(self.processes):
            process.stop()


def executors(worker):
    """The pids of its processes, oldest first."""
    with open(f"/proc/{worker.pid}/task/{worker.pid}/children") as file:
        return [int(pid) for pid in file.read().split()]


def open_for(process, fifo):
    """The FIFO's writing end, once the process has opened the other one."""
    def opened():
        assert process.poll() is None, "it ended before it read its input"
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO, error
            return None
    end = time.monotonic() + 20 * SLOW
    while (fd := opened()) is None:
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
    os.set_blocking(fd, True)
    return os.fdopen(fd, "w")


def until(condition, timeout):
    end = time.monotonic() + timeout * SLOW
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.02)
