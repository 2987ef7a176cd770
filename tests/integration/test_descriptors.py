"""Programs and tasks with few descriptors, or with files that may not grow."""
import os
import resource
import socket
import subprocess
import sys
import time

import pytest
from conftest import BIN, FULL, HERE, SLOW, cpu_seconds, lines, until

TASKS = HERE / "tasks.py"
LIMITED = """
import os, resource, signal, sys
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]), int(sys.argv[3])))
signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it
os.execv(sys.argv[4], sys.argv[4:])
"""
HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def limited(limit, soft, hard=None):
    return (sys.executable, "-c", LIMITED, limit, str(soft), str(soft if hard is None else hard))


# ---- the broker ----

def connections(fleet, count):
    host, port = fleet.endpoint.removeprefix("tcp://").split(":")
    return [socket.create_connection((host, int(port)), timeout=10) for _ in range(count)]


def test_a_broker_out_of_descriptors_says_so_and_serves_who_is_there(fleet):
    """operations.O12, reliability.R9: no word anywhere, 19 to 40 % of a core in accept."""
    fleet.broker.stop()
    fleet.processes.remove(fleet.broker)
    fleet.broker = fleet.start(BIN / "peach-broker", "--bind", fleet.endpoint,
                               prefix=limited("RLIMIT_NOFILE", 40))
    until(lambda: "listening" in fleet.broker.said(), 10)
    fleet.worker(1, TASKS)
    watcher = subprocess.Popen([BIN / "peach", "map", "--quiet", "late", "0..99999"],
                               stdout=subprocess.PIPE, text=True,
                               env={**os.environ, **fleet.env})
    assert watcher.stdout.readline() == "0\n"
    idle = connections(fleet, 60)
    until(lambda: "descriptors" in fleet.broker.said(), 10)
    before = cpu_seconds(fleet.broker.pid), time.monotonic()
    for i in range(1, 40):  # who is there is served
        assert watcher.stdout.readline() == f"{i}\n"
    used = (cpu_seconds(fleet.broker.pid) - before[0]) / (time.monotonic() - before[1])
    assert used < 0.15, used
    late = fleet("map", "-t", 2, "fnc", 1, timeout=20)
    assert late.returncode == 3 and "no broker" in late.stderr, late
    assert fleet.broker.said().count("descriptors") <= 3  # and it does not fill the log
    for s in idle:
        s.close()
    until(lambda: fleet("map", "-t", 2, "fnc", 1).returncode == 0, 20)
    view = fleet.view()
    assert view["refused_connections"] > 0 and view["descriptor_limit"] == 40
    watcher.kill()
    watcher.wait()


# ---- the worker ----

@pytest.mark.parametrize("soft", [48, 64, 100])
def test_a_worker_with_few_descriptors_has_fewer_slots(fleet, soft):
    """operations.O9, worker.C2: exit status 2, "socketpair: Bad file descriptor"."""
    worker = fleet.start(BIN / "peach-worker", "--slots", 60, "-l", TASKS,
                         prefix=limited("RLIMIT_NOFILE", soft))
    until(lambda: fleet.count_ready() == 1 or worker.process.poll() is not None, 30)
    assert worker.process.poll() is None, worker.said()
    slots = fleet.workers()[0]["slots"]
    assert 1 <= slots < 60 and "descriptors" in worker.said(), worker.said()
    assert lines(fleet("map", "--quiet", "fnc", "1..500", check=0)) == list(range(1, 501))


def test_a_worker_that_can_start_nobody_says_why(fleet):
    """worker.C2: the exit status was that of wrong usage."""
    worker = fleet.start(BIN / "peach-worker", "--slots", 2, "-l", TASKS,
                         prefix=limited("RLIMIT_NOFILE", 14))
    assert worker.wait(20) == 1, worker.said()
    assert "Too many open files" in worker.said(), worker.said()


def test_programs_raise_their_soft_limit(fleet):
    """operations.O3, worker.A6: only the broker did."""
    worker = fleet.start(BIN / "peach-worker", "--slots", 1, "-l", TASKS,
                         prefix=limited("RLIMIT_NOFILE", 64, HARD))
    until(lambda: fleet.count_ready() == 1, 20)
    for pid in (worker.pid, fleet.broker.pid):
        line = next(x for x in open(f"/proc/{pid}/limits") if x.startswith("Max open files"))
        assert line.split()[3] == line.split()[4]


@pytest.mark.held
def test_executors_have_the_limit_that_their_worker_was_started_with(fleet, script):
    """A program that closes all descriptors up to its limit, or uses select, is not to suffer."""
    path = script("import resource\ndef limit(_):\n"
                  "    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]\n")
    fleet.start(BIN / "peach-worker", "--slots", 1, "-l", path,
                prefix=limited("RLIMIT_NOFILE", 321, HARD))
    until(lambda: fleet.count_ready() == 1, 20)
    assert lines(fleet("map", "limit", 1, check=0)) == [321]


# ---- files that may not grow ----

def test_a_file_size_limit_ends_nobody(fleet):
    """operations.O9: SIGXFSZ ended peach map (153) and a supervisor, again at each start."""
    fleet.start(BIN / "peach-worker", "--slots", 2, "-l", TASKS,
                prefix=limited("RLIMIT_FSIZE", 100_000))
    until(lambda: fleet.count_ready() == 1, 20)
    text = "x" * 1_000_000
    done = subprocess.run([*limited("RLIMIT_FSIZE", 100_000), BIN / "peach", "map", "--quiet", "fnc",
                           "-"], input="\n".join([f'"{text}"'] * 5), capture_output=True,
                          text=True, timeout=60 * SLOW, env={**os.environ, **fleet.env})
    assert done.returncode == 0, (done.returncode, done.stderr)
    assert lines(done) == [text] * 5


# ---- values ----

KEEPS = """
import sys
import numpy as np
import peach
client = peach.connect(timeout=10)
big = lambda i: __import__("numpy").full(40_000, i, dtype="float64")
count = int(sys.argv[1])
kept = client.map(big, range(count))
assert all((a == i).all() and a.shape == (40_000,) for i, a in enumerate(kept))
futures = [client.submit(big, i) for i in range(count)]
more = [f.result(60) for f in futures]
assert all((a == i).all() for i, a in enumerate(more))
values = [client.put(np.full(40_000, i, dtype="float64")) for i in range(count // 2)]
open("/dev/null").close()  # there is one left for who uses us
sums = client.map(lambda a: float(a[0]), values)
assert sums == [float(i) for i in range(count // 2)]
print(len(__import__("os").listdir("/proc/self/fd")))
"""


@pytest.mark.parametrize("soft, count", [(1024, 1500 if FULL else 700), (100, 150)])
def test_values_that_are_kept_need_no_descriptors(fleet, soft, count):
    """operations.O3, worker.A6: one each; at 1,024 no more could be taken, and the caller's
    process could open nothing any more; a map over many that were put never ended."""
    env = {**os.environ, **fleet.env, "PYTHONPATH": str(BIN.parent / "python")}
    fleet.start(BIN / "peach-worker", "--slots", 2, "-l", TASKS,
                prefix=limited("RLIMIT_NOFILE", soft))
    until(lambda: fleet.count_ready() == 1, 20)
    done = subprocess.run([*limited("RLIMIT_NOFILE", soft), sys.executable, "-c", KEEPS,
                           str(count)], capture_output=True, text=True, env=env,
                          timeout=120 * SLOW)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < soft * 0.7
