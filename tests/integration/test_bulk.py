"""Large payloads: through shared memory between processes of one place, as frames
between others; the same values either way, and nothing left behind."""
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from conftest import BIN, HERE, SLOW, driver, executors, lines, until

sys.path.insert(0, str(HERE.parent / "fuzz"))
TASKS = HERE / "tasks.py"
OFF = {"PEACH_SHARED_MEMORY": "0"}


def loopback_bytes():
    for line in pathlib.Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    return 0


def blocks(pid):
    """Descriptors of shared memory that a process has open."""
    folder, found = pathlib.Path(f"/proc/{pid}/fd"), 0
    for fd in folder.iterdir():
        try:
            found += "memfd:peach-block" in os.readlink(fd)
        except OSError:
            pass
    return found


@pytest.mark.alone
@pytest.mark.parametrize("client", ["here", "elsewhere"])
@pytest.mark.parametrize("worker", ["here", "elsewhere"])
def test_arrays_come_back_as_they_went(fleet, client, worker):
    """Whoever cannot share gets frames; of two that can, only names cross."""
    env = dict(fleet.env)
    if worker == "elsewhere":
        fleet.env.update(OFF)
    fleet.worker(2, TASKS)
    env.update(OFF if client == "elsewhere" else {})
    before = loopback_bytes()
    driver("bulk", "fnc", 6, 4096, env=env)
    crossed = (loopback_bytes() - before) / (6 * 4096 * 1024)
    # there and back, over one connection or two
    assert crossed < 0.2 if client == worker == "here" else crossed > 1.5, crossed
    driver("bulk", "fnc", 40, 1, env=env)
    driver("bulk", "fnc", 10, 255, env=env)  # just too small to be shared
    driver("bulk", "fnc", 10, 257, env=env)


def test_shared_memory_goes_when_it_is_not_used(fleet):
    worker = fleet.worker(2, TASKS)
    driver("bulk", "fnc", 20, 2048, env=fleet.env)
    everybody = [fleet.broker.pid, worker.pid, *executors(worker)]
    until(lambda: sum(map(blocks, everybody)) == 0, 15)


def test_results_wait_for_a_supervisor_that_is_slow(fleet):
    """An executor keeps its results' memory until the supervisor has opened it."""
    worker = fleet.worker(1, TASKS)
    job = subprocess.Popen([str(BIN.parent / "tests" / "driver"), "bulk", "fnc", "400", "300"],
                           env={**os.environ, **fleet.env}, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    while job.poll() is None:
        worker.signal(signal.SIGSTOP)
        time.sleep(0.01)
        worker.signal(signal.SIGCONT)
        time.sleep(0.002)
    assert job.returncode == 0, job.stderr.read()


def test_whoever_dies_shared_memory_does_not_stay(fleet):
    """Executors, a worker and a client are killed while arrays are on their way."""
    worker = fleet.worker(2, TASKS)
    other = fleet.worker(2, TASKS)
    job = subprocess.Popen([str(BIN.parent / "tests" / "driver"), "bulk", "late", "60", "1024"],
                           env={**os.environ, **fleet.env}, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    for _ in range(4):
        time.sleep(0.3 * SLOW)
        os.kill(executors(worker)[0], signal.SIGKILL)
    other.signal(signal.SIGKILL)
    out, err = job.communicate(timeout=90 * SLOW)
    assert job.returncode == 0, err
    stuck = subprocess.Popen([str(BIN.parent / "tests" / "driver"), "bulk", "late", "60", "1024"],
                             env={**os.environ, **fleet.env}, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL)
    until(lambda: fleet.view()["running_tasks"] > 0, 20)
    time.sleep(0.3)
    stuck.kill()
    stuck.wait()
    everybody = [fleet.broker.pid, worker.pid, *executors(worker)]
    until(lambda: sum(map(blocks, everybody)) == 0, 30)
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))


def test_a_function_may_write_to_its_argument(fleet, tmp_path):
    """What it writes is its own: the item that runs again, and the client's array, are as
    they were."""
    path = tmp_path / "writes.py"
    path.write_text("import os\n"
                    "def scribble(x):\n"
                    "    first = not os.path.exists(__file__ + '.ran')\n"
                    "    assert x[1] == 1 and x[-1] % 4294967296 == len(x) - 1, (x[1], x[-1])\n"
                    "    y = x.copy()\n"
                    "    x[:] = 7\n"
                    "    if first:\n"
                    "        open(__file__ + '.ran', 'w').close()\n"
                    "        os._exit(3)\n"
                    "    return y\n")
    fleet.worker(1, path)
    driver("bulk", "scribble", 1, 1024, env=fleet.env)


def test_a_broker_that_is_killed_takes_no_array_with_it(fleet):
    fleet.worker(2, TASKS)
    job = subprocess.Popen([str(BIN.parent / "tests" / "driver"), "bulk", "late", "40", "1024"],
                           env={**os.environ, **fleet.env}, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    time.sleep(1)
    fleet.broker.signal(signal.SIGKILL)
    fleet.broker.wait()
    fleet.start_broker()
    out, err = job.communicate(timeout=90 * SLOW)
    assert job.returncode == 0, err


# ---- values that are put once ----


@pytest.mark.parametrize("kib", [1, 64, 4096])
def test_a_value_is_put_once_and_used_many_times(fleet, kib):
    """In arguments, and inside of them; in two executors, which may not write to it."""
    worker = fleet.worker(2, TASKS)
    driver("put", "last", 50, kib, env=fleet.env)
    until(lambda: sum(map(blocks, [fleet.broker.pid, worker.pid, *executors(worker)])) == 0, 15)


@pytest.mark.alone
def test_a_value_crosses_to_a_host_once(fleet):
    """Bytes on the wire: to the broker, to the worker, and not once an item."""
    fleet.env.update(OFF)
    fleet.worker(2, TASKS)
    before = loopback_bytes()
    driver("put", "last", 100, 4096, env=fleet.env)
    crossed = (loopback_bytes() - before) / (4096 * 1024)
    assert 1.9 < crossed < 3, crossed


def test_a_worker_keeps_no_more_than_its_cache(fleet):
    """Two clients' values do not fit together: one goes and comes again, nothing fails."""
    fleet.worker(1, TASKS, args=("--cache", 5))
    jobs = [subprocess.Popen([str(BIN.parent / "tests" / "driver"), "put", "last_slowly", "30",
                              str(kib)], env={**os.environ, **fleet.env},
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for kib in (3000, 3001)]
    for job in jobs:
        out, err = job.communicate(timeout=60 * SLOW)
        assert job.returncode == 0, err


@pytest.mark.parametrize("who", ["executor", "worker", "broker"])
def test_a_value_is_there_after_a_loss(fleet, who):
    worker = fleet.worker(2, TASKS)
    job = subprocess.Popen([str(BIN.parent / "tests" / "driver"), "put", "last_slowly", "60",
                            "1024"], env={**os.environ, **fleet.env}, stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    until(lambda: fleet.view()["done_items"] > 5, 20)
    if who == "executor":
        os.kill(executors(worker)[0], signal.SIGKILL)
    elif who == "worker":
        fleet.worker(2, TASKS)
        worker.signal(signal.SIGKILL)
    else:
        fleet.broker.signal(signal.SIGKILL)
        fleet.broker.wait()
        fleet.start_broker()
    out, err = job.communicate(timeout=90 * SLOW)
    assert job.returncode == 0, err


def test_the_broker_keeps_no_more_values_than_it_may(make_fleet):
    fleet = make_fleet("--memory", "2")
    fleet.worker(1, TASKS)
    done = subprocess.run([str(BIN.parent / "tests" / "driver"), "put", "last", "1", "4096"],
                          env={**os.environ, **fleet.env}, capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 1 and "--memory" in done.stderr, done.stderr
    driver("put", "last", 5, 1000, env=fleet.env)


def test_a_stranger_cannot_name_memory_that_is_not_his(fleet, tmp_path):
    """A payload may be named that is a file of the broker's, or nobody's."""
    zmq = pytest.importorskip("zmq")
    from seeds import VERSION, envelope, job, message
    secret = tmp_path / "secret"
    secret.write_text("s" * 10000)
    fleet.worker(1, TASKS)
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(fleet.endpoint)
    dealer.send(envelope(1, [(1, VERSION), (2, 1), (3, b"names memory 123"), (4, "h"), (10, 1)]))
    assert dealer.poll(5000)
    dealer.recv()
    with open(secret):
        for number, (pid, fd) in enumerate([(os.getpid(), 3), (fleet.broker.pid, 1),
                                            (4194304, 0), (fleet.broker.pid, 4)], 1):
            shared = message([(1, pid), (2, fd), (3, 9000), (4, b"t" * 16)])
            task = message([(1, number), (4, 1), (5, message([(3, shared)]))])
            dealer.send(envelope(3, [(1, job(1).replace(b"\x12\x01f", b"\x12\x03fnc")),
                                     (2, task), (3, number)]))
            answer = b""
            while b"cannot be taken" not in answer:
                assert dealer.poll(5000), "no answer"
                answer = dealer.recv()
    context.destroy(0)
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))
