"""What a task does to its own process stays there: the next tasks, other executors and
the supervisor go on as if nothing had been."""
import subprocess
import sys
import time

import pytest
from conftest import BIN, HERE, SLOW, cpu_seconds, executors, lines, state, until

TASKS = HERE / "tasks.py"


def works(fleet, count=200):
    """Items of two jobs, by two clients, are right."""
    return all(lines(fleet("map", "--quiet", "fnc", f"1..{count}", check=0)) ==
               list(range(1, count + 1)) for _ in range(2))


# ---- forked children ----

FORK = """
import os, threading
def forks(i):
    if i == 1:
        os.fork()
    return i
def forks_in_thread(i):
    def fork():
        if os.fork() == 0:
            os._exit(0)
    t = threading.Thread(target=fork); t.start(); t.join()
    return i
def forks_and_raises(i):
    os.fork()
    raise ValueError(i)
def forks_twice(i):
    os.fork(); os.fork()
    return os.getpid()
def forks_and_exits(i):
    import sys
    if os.fork() == 0:
        sys.exit(0)
    return i
gen_state = []
def forks_in_generator(i):
    def g():
        os.fork()
        yield i
    return list(g())
"""


@pytest.mark.parametrize("function, good", [
    ("forks", [0, 1, 2]), ("forks_in_thread", [0, 1, 2]), ("forks_and_exits", [0, 1, 2]),
    ("forks_in_generator", [[0], [1], [2]])])
def test_a_child_that_a_task_forked_serves_nobody(fleet, script, function, good):
    """worker.B4: a child that returns from the task reads the executor's messages."""
    worker = fleet.worker(1, TASKS, script(FORK))
    assert lines(fleet("map", "--quiet", function, "0..2", check=0)) == good
    until(lambda: len(executors(worker)) == 1, 5)
    assert all(works(fleet) for _ in range(3))
    for i in range(10):  # values that are put go to the executor, and not to a child
        source = "lambda x, n=%d: x + n" % i
        done = fleet("map", "--quiet", "--source", source, "1..3", check=0)
        assert lines(done) == [1 + i, 2 + i, 3 + i]


@pytest.mark.parametrize("function", ["forks_and_raises", "forks_twice"])
def test_a_forked_child_ends_whatever_the_task_does(fleet, script, function):
    """worker.B4"""
    worker = fleet.worker(1, TASKS, script(FORK))
    done = fleet("map", "--quiet", function, 5)
    assert len(lines(done)) == 1
    until(lambda: len(executors(worker)) == 1, 5)  # orphans come to the worker, which reaps them
    pid = executors(worker)[0]
    until(lambda: not children_of(pid), 5)
    assert works(fleet)


def children_of(pid):
    """Those that live: a task's children are its own to wait for."""
    children = open(f"/proc/{pid}/task/{pid}/children").read().split()
    return [c for c in children if state(c) not in ("gone", "Z")]


# ---- descriptors ----

CLOSES = """
import os, sys
def close(fds):
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            pass
    return 1
def close_range(fds):
    os.closerange(*fds)
    return 1
def say(x):
    print("said", x, flush=True)
    sys.stderr.write("complained\\n")
    return x
def dup(fds):
    os.dup2(*fds)
    return 1
def list_fds(_):
    import tempfile
    with tempfile.NamedTemporaryFile("r") as file:
        os.system("ls -l /proc/self/fd > " + file.name)  # unlike subprocess it closes nothing
        return file.read().splitlines()
def status(_):
    import subprocess
    return [subprocess.run(["sh", "-c", "exit 5"]).returncode, subprocess.call(["false"])]
"""


@pytest.mark.parametrize("descriptors", [[0], [1], [2], [3], [4], [5], [0, 1, 2], [3, 4, 5],
                                         [1, 2, 3, 4, 5, 6]], ids=str)
def test_a_task_that_closes_descriptors(fleet, script, descriptors):
    """worker.B10: whichever it closes, later tasks print and run, and nobody spins."""
    worker = fleet.worker(1, TASKS, script(CLOSES))
    fleet("map", "--quiet", "--retries", 0, "close", str(descriptors))
    assert lines(fleet("map", "--quiet", "say", 1, 2, 3, check=0)) == [1, 2, 3]
    done = fleet("map", "--quiet", "--logs", "say", 7, check=0)
    assert "said 7" in done.stderr and "complained" in done.stderr
    before = cpu_seconds(worker.pid), time.monotonic()
    time.sleep(1.5)
    used = (cpu_seconds(worker.pid) - before[0]) / (time.monotonic() - before[1])
    assert used < 0.2, used
    assert works(fleet)


@pytest.mark.held
@pytest.mark.parametrize("what, value", [("close_range", [3, 64]), ("close_range", [0, 64]),
                                         ("dup", [1, 3]), ("dup", [0, 5]), ("dup", [4, 1])])
def test_descriptors_that_are_replaced(fleet, script, what, value):
    worker = fleet.worker(1, TASKS, script(CLOSES))
    fleet("map", "--quiet", "--retries", 0, what, str(value))
    assert lines(fleet("map", "--quiet", "say", 1, check=0)) == [1]
    assert works(fleet)
    assert worker.process.poll() is None


def test_programs_that_a_task_starts_hold_none_of_our_descriptors(fleet, script):
    """worker.C7: the channel and the pipe of what is printed."""
    fleet.worker(1, script(CLOSES))
    listed = "\n".join(lines(fleet("map", "--quiet", "list_fds", 1, check=0))[0])
    assert "memfd:peach" not in listed and "socket:" not in listed
    assert {line.split()[8] for line in listed.splitlines()[1:]} <= {"0", "1", "2", "3"}


def test_child_processes_have_their_exit_status_whoever_started_the_worker(fleet, script):
    """operations.O14: SIGCHLD that is ignored is inherited, and waitpid fails then."""
    code = "import signal, os, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); " \
           "os.execv(sys.argv[1], sys.argv[1:])"
    worker = fleet.start(BIN / "peach-worker", "--slots", 1, "-l", script(CLOSES), "-l", TASKS,
                         prefix=(sys.executable, "-c", code))
    until(lambda: fleet.count_ready() == 1, 20)
    assert lines(fleet("map", "--quiet", "status", 1, check=0)) == [[5, 1]]
    error = lines(fleet("map", "--quiet", "--retries", 0, "exits", 3))[0]["error"]
    assert "exited with code 3" in error["message"], error
    assert worker.process.poll() is None


def test_a_run_by_a_parent_that_ignores_its_children(script):
    """operations.O14, in peach run's children."""
    code = "import signal, os, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); " \
           "os.execv(sys.argv[1], sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", code, BIN / "peach", "run", "-q", "-n", "1", "-l",
                           script(CLOSES), "status", "1"], capture_output=True, text=True,
                          timeout=60 * SLOW)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[5,1]\n"


# ---- the channel ----

WRITES = """
import os, struct, random, time
def write(how):
    fd = next(int(fd) for fd in sorted(os.listdir("/proc/self/fd"), key=int)
              if int(fd) > 2 and os.readlink("/proc/self/fd/" + fd).startswith("socket:"))
    data = {"huge": struct.pack("<QQ", 1, 1 << 40), "zero": bytes(16), "ones": b"\\xff" * 64,
            "random": random.Random(5).randbytes(4096), "short": struct.pack("<QQ", 1, 100)[:9],
            "many": struct.pack("<QQ", 1 << 30, 1 << 30), "part": struct.pack("<QQ", 1, 1000)}[how]
    os.write(fd, data)
    return how
"""


@pytest.mark.parametrize("how", ["huge", "zero", "ones", "random", "short", "many", "part"])
def test_a_task_that_writes_into_its_channel_loses_its_process(fleet, script, how):
    """worker.B9: a head that announces a huge frame swallowed all later results."""
    worker = fleet.worker(1, TASKS, script(WRITES))
    before = executors(worker)
    done = fleet("map", "--quiet", "--retries", 0, "write", f'"{how}"', timeout=20)
    assert len(lines(done)) == 1
    assert works(fleet)
    assert executors(worker) != before
    if "error" in done.stdout:
        assert "PEACH_E_DIED" in done.stdout, done.stdout


# ---- the page that is shared with the supervisor ----

SCRIBBLES = """
import ctypes, os, random
def scribble(job):
    fill, then = job
    for line in open("/proc/self/maps"):
        if "peach-slot" in line:
            begin, end = (int(x, 16) for x in line.split()[0].split("-"))
            size = end - begin
            data = bytes(size) if fill == "00" else b"\\xff" * size if fill == "ff" else \\
                random.Random(7).randbytes(size)
            ctypes.memmove(begin, data, size)
    if then == "exit":
        os._exit(1)
    return then
"""


@pytest.mark.parametrize("then", ["exit", "return"])
@pytest.mark.parametrize("fill", ["ff", "00", "random"])
def test_a_scribbled_page_costs_one_item_its_process(fleet, script, fill, then):
    """worker.B14: what the page said was believed; the item was never charged."""
    fleet.worker(1, TASKS, script(SCRIBBLES))
    done = fleet("map", "--quiet", "--retries", 1, "scribble", f'["{fill}", "{then}"]', timeout=30)
    assert len(lines(done)) == 1
    if then == "exit":
        error = lines(done)[0]["error"]
        assert error["status"] == "PEACH_E_DIED" and len(error["attempts"]) == 2
    assert works(fleet)


# ---- executors that are replaced and do not end ----

def test_an_executor_that_does_not_end_is_killed(fleet, plugin):
    """worker.B8: it took its slot for ever. CUDA, MPI and static destructors do that."""
    waits = plugin("#include <unistd.h>\n"
                   "__attribute__((destructor)) static void end(void) { sleep(1000); }\n",
                   one="peach_value_int(1)", name="waits")
    worker = fleet.worker(1, TASKS, waits, args=("--recycle", 5, "--grace", 1))
    pids = set(executors(worker))
    for _ in range(6):
        assert lines(fleet("map", "--quiet", "--chunk", 1, "fnc", "0..3", check=0,
                           timeout=20)) == [0, 1, 2, 3]
        pids |= set(executors(worker))
    assert len(pids) >= 3
    until(lambda: len(executors(worker)) == 1, 10)
