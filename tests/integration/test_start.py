"""--start fork: executors are copies of one that has loaded the preloads."""
import os
import pathlib
import signal
import time

import pytest
from conftest import EXAMPLES, HERE, lines, peach, state, until

TASKS = HERE / "tasks.py"


def children(pid):
    return [int(p) for p in
            pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_copies_run_tasks_and_are_replaced(fleet):
    worker = fleet.worker(3, TASKS, args=("--start", "fork"))
    assert len(children(worker.pid)) == 4  # three executors, and what they are copies of
    assert lines(fleet("map", "fnc", "0..99", check=0)) == list(range(100))
    pids = set(lines(fleet("map", "--chunk", 1, "pid", "0..59", check=0)))
    assert len(pids) == 3 and pids < set(children(worker.pid))
    got = lines(fleet("map", "--retries", 0, "kills", "0..5", check=1))
    assert [x for x in got if not isinstance(x, dict)] == [0, 1, 2, 4, 5]
    assert "signal 9" in got[3]["error"]["message"]
    until(lambda: fleet.count_ready() == 1, 20)
    assert len(set(lines(fleet("map", "--chunk", 1, "pid", "0..59", check=0))) - pids) >= 1
    # each draws numbers of its own
    drawn = lines(fleet("map", "--chunk", 1, "draw", "0..29", check=0))
    assert len(set(map(str, drawn))) == 30


def test_a_preload_comes_later(fleet, script):
    fleet.worker(2, TASKS, args=("--start", "fork"))
    fleet("preload", script("def later(x):\n    return x + 1\n", "later.py"), check=0)
    assert lines(fleet("map", "later", "0..9", check=0)) == list(range(1, 11))
    for _ in range(2):  # also in a copy that is made afterwards
        fleet("map", "--retries", 0, "kills", "3..3", check=1)
    until(lambda: fleet.count_ready() == 1, 20)
    assert lines(fleet("map", "later", "0..9", check=0)) == list(range(1, 11))


@pytest.mark.parametrize("text, why", [("raise ValueError('not today')", "not today"),
                                       ("import os\nos.kill(os.getpid(), 9)", "signal 9")])
def test_a_preload_that_fails_is_told(fleet, script, text, why):
    fleet.worker(2, TASKS, args=("--start", "fork"))
    done = fleet("preload", script(text, "bad.py"), timeout=30)
    assert done.returncode == 1 and why in done.stderr, done.stderr
    until(lambda: fleet.count_ready() == 1, 20)
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))


def test_everybody_goes_with_the_worker(fleet):
    worker = fleet.worker(2, TASKS, args=("--start", "fork"))
    there = children(worker.pid)
    worker.signal(signal.SIGKILL)
    worker.wait()
    until(lambda: all(state(pid) in ("gone", "Z", "X") for pid in there), 10)


def test_what_a_task_leaves_behind_is_no_zombie(fleet, script):
    worker = fleet.worker(1, script(
        "import subprocess\ndef leave(x):\n"
        "    subprocess.Popen('sleep 0.2 & sleep 0.3', shell=True)\n"
        "    return x\n"), args=("--start", "fork"))
    assert lines(fleet("map", "leave", "0..3", check=0)) == list(range(4))
    fleet("map", "leave", "9..9", check=0)
    executor = [p for p in children(worker.pid)]
    os.kill(max(executor), signal.SIGKILL)
    time.sleep(1)
    until(lambda: all(state(pid) != "Z" for pid in children(worker.pid)), 10)


def test_run_starts_by_copies(script):
    done = peach("run", "-n", 4, "--start", "fork", "-l", EXAMPLES / "multip.py", "func", "2..3",
                 check=0)
    assert lines(done) == [[0, 0.5, 1, 1.5, 2], [0, 0.75, 1.5, 2.25, 3]]
    wrong = peach("run", "--start", "clone", "fnc", "1", check=2)
    assert "none of: spawn fork" in wrong.stderr
