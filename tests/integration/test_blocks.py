"""Values in shared memory whose owner dies before they are read: their items run again. Never an
error of the system while retries are left (reliability.R4, check 7)."""
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from conftest import BIN, FULL, HERE, SLOW, executors, state, until

TASKS = HERE / "tasks.py"
ROUNDS = 5 if FULL else 1

# Prints how many items are right, after it has said what they are to wait for.
CLIENT = """
import sys
import numpy as np
import peach
client = peach.connect(timeout=20)
sizes = [int(x) for x in sys.argv[2:]]
print("begun", flush=True)
items = [(float(i), n) for i, n in enumerate(sizes)]
if sys.argv[1] == "results":
    got = client.options(retries=5, chunk=1).starmap("made", items)
elif sys.argv[1] == "arguments":
    got = client.options(retries=5, chunk=1).map("late_same", [np.full(n, x) for x, n in items])
else:
    refs = [client.put(np.full(n, x)) for x, n in items]
    got = client.options(retries=5, chunk=1).map("late_same", refs)
assert all(a.shape == (n,) and (a == x).all() for a, (x, n) in zip(got, items)), got
print("right", len(got), flush=True)
"""
MADE = """
import os, time
def made(x, n):
    import numpy
    flag = os.environ["FLAG"]
    while not os.path.exists(flag):
        time.sleep(0.01)
    return numpy.full(n, x)
def late_same(a):
    flag = os.environ["FLAG"]
    while not os.path.exists(flag):
        time.sleep(0.01)
    return a
"""
ONCE = """
import os, time
def once(x):
    import numpy
    with open(os.environ["RUNS"], "a") as file:
        file.write(f"{x}\\n")
    while not os.path.exists(os.environ["FLAG"]):
        time.sleep(0.01)
    return numpy.full(40000, float(x))
"""
SIZES = ["60000", "131072", "5000", "131072"]


class Talk:
    """A client in Python, and the flag that its items wait for."""

    def __init__(self, fleet, what, sizes=SIZES):
        env = {**os.environ, **fleet.env, "PYTHONPATH": str(BIN.parent / "python")}
        self.process = subprocess.Popen([sys.executable, "-c", CLIENT, what, *sizes],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                        env=env)
        assert self.process.stdout.readline() == "begun\n"

    def is_right(self):
        out, err = self.process.communicate(timeout=90 * SLOW)
        assert self.process.returncode == 0, err[-2000:]
        assert out == f"right {len(SIZES)}\n"

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def talk():
    made = []

    def make(*args):
        made.append(Talk(*args))
        return made[-1]

    yield make
    for one in made:
        one.stop()


@pytest.fixture
def setting(make_fleet, script, tmp_path):
    """A fleet, its worker (of two slots), and the flag for which items wait."""
    fleet = make_fleet("--session-timeout", 3)
    flag = tmp_path / "flag"
    fleet.env["FLAG"] = str(flag)
    path = script(MADE, "made.py")
    return fleet, lambda: fleet.worker(2, path), flag


def kill(pids):
    """They have ended, with all that they had open, when this returns."""
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    until(lambda: all(state(pid) in ("gone", "Z") for pid in pids), 10)


def running(fleet, count):
    until(lambda: fleet.view()["running_tasks"] >= count, 20)


@pytest.mark.parametrize("round", range(ROUNDS))
def test_an_executor_that_dies_when_its_result_is_on_its_way(setting, talk, round):
    """reliability.R4: "the result cannot be passed on: No such file or directory"."""
    fleet, start_worker, flag = setting
    worker = start_worker()
    client = talk(fleet, "results")
    running(fleet, 2)
    worker.signal(signal.SIGSTOP)  # it does not read
    flag.write_text("")
    time.sleep(0.5)
    kill(executors(worker))
    worker.signal(signal.SIGCONT)
    client.is_right()


@pytest.mark.held
@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_worker_that_dies_when_its_results_are_on_their_way(setting, talk, round):
    fleet, start_worker, flag = setting
    worker = start_worker()
    client = talk(fleet, "results")
    running(fleet, 2)
    fleet.broker.signal(signal.SIGSTOP)
    flag.write_text("")
    time.sleep(0.7)
    worker.signal(signal.SIGKILL)
    worker.wait()
    fleet.broker.signal(signal.SIGCONT)
    start_worker()
    client.is_right()


@pytest.mark.parametrize("round", range(6))  # which of two things the client sees first differs
def test_a_broker_that_dies_when_results_are_on_their_way(setting, talk, round):
    fleet, start_worker, flag = setting
    start_worker()
    client = talk(fleet, "results")
    running(fleet, 2)
    client.process.send_signal(signal.SIGSTOP)
    flag.write_text("")
    until(lambda: fleet.view()["running_tasks"] + fleet.view()["queued_tasks"] == 0, 20)
    time.sleep(0.5)  # they are in the client's socket
    fleet.lose_broker()
    client.process.send_signal(signal.SIGCONT)
    client.is_right()


@pytest.mark.held
@pytest.mark.parametrize("dies", ["executor", "worker"])
@pytest.mark.parametrize("chunk", [1, 4])
def test_results_that_are_gone_are_lost_if_they_may_come_once(make_fleet, script, tmp_path, dies,
                                                              chunk):
    """Of the same kind: nobody had seen them, so the items ran again, retries or not."""
    fleet = make_fleet("--session-timeout", 3)
    flag, ran = tmp_path / "flag", tmp_path / "ran"
    fleet.env.update(FLAG=str(flag), RUNS=str(ran))
    path = script(ONCE, "once.py")
    worker = fleet.worker(2, path)
    out = tmp_path / "out"
    client = fleet.start("peach", "map", "--quiet", "--retries", 0, "--chunk", chunk, "once", "0..7",
                         stdout=open(out, "w"))
    until(lambda: ran.exists() and len(ran.read_text().split()) == 2, 20)
    stopped = worker if dies == "executor" else fleet.broker
    stopped.signal(signal.SIGSTOP)
    flag.write_text("")
    time.sleep(1)
    kill(executors(worker) if dies == "executor" else [worker.pid])
    if dies == "worker":
        worker.wait()
    stopped.signal(signal.SIGCONT)
    if dies == "worker":
        fleet.worker(2, path)
    client.wait(60)
    results = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(results) == 8
    runs = ran.read_text().split()
    assert len(runs) == len(set(runs)), runs
    for i, result in enumerate(results):
        assert result == [float(i)] * 40000 or \
            result["error"]["status"] in ("PEACH_E_LOST", "PEACH_E_DIED"), result


@pytest.mark.held
@pytest.mark.parametrize("what", ["arguments", "puts"])
@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_broker_that_dies_when_orders_are_on_their_way(setting, talk, round, what):
    fleet, start_worker, flag = setting
    worker = start_worker()
    worker.signal(signal.SIGSTOP)
    client = talk(fleet, what)
    running(fleet, 1)
    time.sleep(0.3)
    fleet.lose_broker()
    worker.signal(signal.SIGCONT)
    flag.write_text("")
    client.is_right()


@pytest.mark.held
@pytest.mark.parametrize("what", ["arguments", "puts"])
@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_worker_that_dies_when_orders_are_on_their_way(setting, talk, round, what):
    fleet, start_worker, flag = setting
    worker = start_worker()
    for pid in executors(worker):
        os.kill(pid, signal.SIGSTOP)  # they do not read
    client = talk(fleet, what)
    running(fleet, 1)
    worker.signal(signal.SIGKILL)
    worker.wait()
    flag.write_text("")
    start_worker()
    client.is_right()


@pytest.mark.held
@pytest.mark.parametrize("round", range(ROUNDS))
def test_a_client_that_dies_when_its_items_are_on_their_way(setting, talk, round):
    """Nobody waits for them; the next client's are right, and nothing stays behind."""
    fleet, start_worker, flag = setting
    start_worker()
    client = talk(fleet, "arguments")
    fleet.broker.signal(signal.SIGSTOP)
    time.sleep(0.3)
    client.stop()
    fleet.broker.signal(signal.SIGCONT)
    flag.write_text("")
    talk(fleet, "arguments").is_right()
    until(lambda: fleet.view()["running_tasks"] + fleet.view()["queued_tasks"] == 0, 20)


@pytest.mark.parametrize("retries", [0, 2])
def test_results_whose_memory_the_broker_does_not_find(fleet, script, request, retries):
    """A worker by hand says that they are in memory of a process that is not there."""
    zmq = pytest.importorskip("zmq")
    sys.path.insert(0, str(HERE.parent / "fuzz"))
    import seeds
    context = zmq.Context()
    request.addfinalizer(lambda: context.destroy(0))
    dealer = context.socket(zmq.DEALER)
    dealer.connect(fleet.endpoint)
    dealer.send(seeds.HELLO_WORKER)
    until(lambda: fleet.count_ready() == 1, 10)
    job = fleet.start("peach", "map", "--quiet", "--retries", retries, "--chunk", 2, "f", 7, 8)
    lease = None
    while lease is None:
        assert dealer.poll(10000), "no order came"
        for body, content in seeds.fields(dealer.recv_multipart()[0]):
            for kind, element in seeds.fields(content) if body == 4 else []:
                lease = dict(seeds.fields(element))[1] if kind == 2 else lease
    segment = seeds.message([(2, 2), (3, seeds.SHARED)])
    dealer.send(seeds.results(1, seeds.message([(1, lease), (2, segment), (4, 1)])))
    time.sleep(0.3)
    dealer.send(seeds.GOODBYE)
    fleet.start("peach-worker", "--slots", 1, "-l", script("def f(x):\n    return x\n", "f.py"))
    assert job.wait(20) == (0 if retries else 1), job.said()
    assert job.said().count("PEACH_E_DIED") == (0 if retries else 2), job.said()
    assert retries == 0 or job.said() == "7\n8\n"
