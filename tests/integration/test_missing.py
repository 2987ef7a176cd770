"""Functions that nobody has, and labels that no worker has: told once, soon, and never while
somebody who could have it loads."""
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import BIN, HERE, SLOW, lines, until

TASKS = HERE / "tasks.py"
LOADS = "import time\ntime.sleep({0})\ndef slow(x):\n    return x * 3\n"


def fails(fleet, *args, within=15):
    """The command fails with one message, whatever the number of items."""
    begin = time.monotonic()
    done = fleet(*args, timeout=60)
    assert time.monotonic() - begin < within * SLOW
    assert done.returncode == 1, done
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done


@pytest.mark.parametrize("count", [1, 1000, 100_000, 3_000_000])
def test_a_misspelled_function_fails_at_once_however_many_items(fleet, count):
    """operations.N3: 80 items a second; a million would be 3.5 hours."""
    fleet.worker(2, TASKS)
    done = fails(fleet, "map", "fcn", f"1..{count}")
    assert "fcn" in done.stderr and "did you mean fnc" in done.stderr
    assert len(done.stdout) < 1000


@pytest.mark.parametrize("args", [["--chunk", 1], ["--chunk", 1000], ["--retries", 0],
                                  ["--unordered"], ["--retry-errors"], ["--queue-timeout", 60]])
def test_whatever_the_options(fleet, args):
    """operations.N3"""
    fleet.worker(2, TASKS)
    assert "no worker has this function" in fails(fleet, "map", *args, "fcn", "1..20000").stderr


def test_what_there_is_is_named(fleet):
    """operations.N15"""
    fleet.worker(1, TASKS)
    done = fails(fleet, "map", "nothing_like_it", "1..10")
    assert "there are" in done.stderr and "fnc" in done.stderr


@pytest.mark.parametrize("label", ["gpu=1", "host=x"])
def test_a_label_that_no_worker_has(fleet, label):
    """operations.N3: --require gpu=1: 1,000 items took 13.5 s."""
    fleet.worker(2, TASKS, args=("--label", "gpu=2"))
    done = fails(fleet, "map", "--require", label, "fnc", "1..50000")
    assert label in done.stderr, done.stderr


def test_a_function_whose_last_worker_left(fleet):
    """operations.N3: 31 s, then the same trickle: 400 items 38 s."""
    worker = fleet.worker(1, TASKS)
    client = fleet.start("peach", "map", "--quiet", "late", "1..100000")
    time.sleep(1)
    other = fleet.worker(1)
    worker.signal(signal.SIGTERM)
    assert client.wait(60) == 1  # another may have come for 30 s
    assert "no worker has this function" in client.said()
    assert other.process.poll() is None


def test_python_and_c_fail_at_once(fleet):
    """operations.N3, of the library: whoever wants each item's error has it as soon."""
    code = ("import peach, sys\n"
            "with peach.connect(timeout=10) as c:\n"
            "    got = c.map('fcn', range(200_000), return_exceptions=True)\n"
            "    assert len(got) == 200_000 and all(isinstance(x, Exception) for x in got)\n"
            "    f = [c.submit('fcn', i) for i in range(2000)]\n"
            "    assert all(isinstance(x.exception(30), Exception) for x in f)\n"
            "    print(got[0]); print(got[-1]); print(f[1999].exception())\n")
    fleet.worker(2, TASKS)
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          timeout=60 * SLOW, env={**os.environ, **fleet.env,
                                                  "PYTHONPATH": str(BIN.parent / "python")})
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - begin < 20 * SLOW
    assert done.stdout.count("no worker has this function") == 3, done.stdout


@pytest.mark.held
def test_nobody_fails_while_a_worker_loads_that_may_have_it(fleet, script):
    """operations.N3: the settling time is not over then."""
    fleet.worker(1, TASKS)
    fleet.start("peach-worker", "--slots", 1, "-l", script(LOADS.format(5)))
    until(lambda: len(fleet.workers()) == 2, 10)
    assert lines(fleet("map", "--quiet", "slow", "1..100", check=0)) == \
        [3 * x for x in range(1, 101)]


def test_a_worker_whose_labels_do_not_fit_is_not_waited_for(fleet, script):
    fleet.worker(1, TASKS)
    fleet.start("peach-worker", "--slots", 1, "-l", script(LOADS.format(300)))
    until(lambda: len(fleet.workers()) == 2, 10)
    done = fails(fleet, "map", "--require", "gpu=1", "slow", "1..100")
    assert "gpu=1" in done.stderr


def test_nobody_waits_for_ever_for_a_worker_that_loads(fleet, script):
    """60 s at most."""
    fleet.worker(1, TASKS)
    fleet.start("peach-worker", "--slots", 1, "-l", script(LOADS.format(300)))
    until(lambda: len(fleet.workers()) == 2, 10)
    begin = time.monotonic()
    done = fleet("map", "fcn", "1..1000", timeout=100)
    assert done.returncode == 1 and "no worker has this function" in done.stderr
    assert 50 < time.monotonic() - begin < 75
