"""Processes that tasks start go with their item, whatever ends it."""
import json
import os
import signal
import subprocess
import time

import pytest
from conftest import BIN, HERE, SLOW, executors, lines, state, until

TASKS = HERE / "tasks.py"

STARTS = """
import os, subprocess, time, threading
def shell(path):
    os.system("echo $$ >> %s; sleep 300" % path)
    return path
def background(path):
    subprocess.Popen(["sh", "-c", "echo $$ >> %s; sleep 300" % path])
    time.sleep(300)
def pipeline(path):
    subprocess.run("sh -c 'echo $$ >> %s; sleep 300' | cat" % path, shell=True)
def in_thread(path):
    t = threading.Thread(target=lambda: os.system("echo $$ >> %s; sleep 300" % path))
    t.start(); t.join()
def deep(path):
    os.system("sh -c 'sh -c \\"echo \\\\$\\\\$ >> %s; sleep 300\\"; true'; true" % path)
def ignores(path):
    subprocess.run(["sh", "-c", "trap '' INT; echo $$ >> %s; sleep 300 & wait; sleep 300" % path])
def eats(job):
    mib, seconds = job
    subprocess.run(["python3", "-S", "-c",
                    "import time; x = bytearray(%d << 20); time.sleep(%f)" % (mib, seconds)])
    return mib
def kills(path):
    subprocess.Popen(["sh", "-c", "echo $$ >> %s; sleep 300" % path])
    while not os.path.exists(path):
        time.sleep(0.01)
    os.kill(os.getpid(), 9)
def orphan(_):
    subprocess.run(["sh", "-c", "sleep 0.2 & true"])
    return 1
"""
KINDS = ["shell", "background", "pipeline", "in_thread", "deep", "ignores"]


def pids(path):
    return [int(x) for x in path.read_text().split()] if path.exists() else []


def alive(pid):
    return state(pid) not in ("gone", "Z")


def start(fleet, function, path, *options):
    """A client whose one item is at work, and its child."""
    client = fleet.start("peach", "map", "--quiet", "--retries", 0, *options, function,
                         json.dumps(str(path)))
    until(lambda: pids(path), 10)
    return client, pids(path)


def gone(children):
    until(lambda: not any(map(alive, children)), 10)


@pytest.mark.parametrize("function", KINDS)
def test_children_go_with_an_item_that_is_over_its_time(fleet, script, tmp_path, function):
    """worker.C1, operations.O5"""
    fleet.worker(1, TASKS, script(STARTS), args=("--grace", 0.5))
    client, children = start(fleet, function, tmp_path / "pids", "--item-timeout", 0.5)
    client.wait(20)
    assert "PEACH_E_TIMEOUT" in client.said()
    gone(children)
    assert lines(fleet("map", "--quiet", "fnc", 1, 2, check=0)) == [1, 2]


@pytest.mark.parametrize("function", KINDS)
def test_children_go_with_a_cancelled_item(fleet, script, tmp_path, function):
    """worker.C1, operations.O5"""
    fleet.worker(1, TASKS, script(STARTS), args=("--grace", 0.5))
    client, children = start(fleet, function, tmp_path / "pids")
    client.signal(signal.SIGINT)
    client.wait(10)
    gone(children)


def test_what_waits_for_a_child_can_be_interrupted(fleet, script, tmp_path):
    """operations.O5: system() ignores the signal while its child runs; its executor was killed."""
    worker = fleet.worker(1, script(STARTS), args=("--grace", 8))
    before = executors(worker)
    client, children = start(fleet, "shell", tmp_path / "pids", "--item-timeout", 0.3)
    client.wait(6)
    gone(children)
    assert executors(worker) == before


@pytest.mark.parametrize("end", ["executor", "task", "drain", "stop at once"])
def test_children_go_with_their_process(fleet, script, tmp_path, end):
    """operations.O5"""
    worker = fleet.worker(1, TASKS, script(STARTS), args=("--grace", 0.5))
    path = tmp_path / "pids"
    client, children = start(fleet, "kills" if end == "task" else "background", path)
    if end == "executor":
        os.kill(executors(worker)[0], signal.SIGKILL)
    elif end == "stop at once":
        worker.signal(signal.SIGTERM)
        time.sleep(0.2)
        worker.signal(signal.SIGTERM)
        worker.wait(10)
    elif end == "drain":
        client.signal(signal.SIGINT)
        worker.signal(signal.SIGTERM)
        worker.wait(20)
    client.wait(20)
    gone(children)


def test_a_run_that_ends_leaves_nobody_who_holds_its_standard_error(script, tmp_path):
    """operations.O5: peach run ... 2>&1 | tee log did not end before the task's child."""
    path = tmp_path / "pids"
    begin = time.monotonic()
    done = subprocess.run([BIN / "peach", "run", "-q", "-n", "1", "-l", script(STARTS),
                           "--item-timeout", "0.3", "--retries", "0", "background",
                           json.dumps(str(path))], capture_output=True, timeout=60 * SLOW)
    assert time.monotonic() - begin < 30 * SLOW  # not the child's 300 s
    assert b"PEACH_E_TIMEOUT" in done.stdout
    gone(pids(path))


def test_memory_of_children_counts(fleet, script):
    """worker.B6: a task whose subprocess held 1,000 MiB passed a limit of 150."""
    fleet.worker(1, TASKS, script(STARTS), args=("--memory", 150))
    done = fleet("map", "--quiet", "--retries", 0, "eats", "[400, 20]", timeout=30)
    assert "over its limit of 150" in done.stdout, done.stdout
    assert lines(fleet("map", "--quiet", "eats", "[20, 0.5]", check=0)) == [20]


def test_the_first_process_of_a_container_reaps_what_comes_to_it(fleet, script):
    """operations.O15: a zombie each."""
    worker = fleet.start("peach-worker", "--slots", 1, "-l", script(STARTS),
                         prefix=("unshare", "--pid", "--fork", "--kill-child", "--mount-proc"))
    until(lambda: fleet.count_ready() == 1, 20)
    assert lines(fleet("map", "--quiet", "orphan", "1..10", check=0)) == [1] * 10
    supervisor = executors(worker)[0]

    def zombies():
        children = open(f"/proc/{supervisor}/task/{supervisor}/children").read().split()
        return [c for c in children if not alive(int(c))]

    until(lambda: not zombies() and len(
        open(f"/proc/{supervisor}/task/{supervisor}/children").read().split()) == 1, 10)


@pytest.mark.held
def test_a_worker_that_is_killed_takes_its_executors_with_it(fleet, script):
    worker = fleet.worker(2, TASKS)
    children = executors(worker)
    worker.signal(signal.SIGKILL)
    worker.wait(10)
    gone(children)
