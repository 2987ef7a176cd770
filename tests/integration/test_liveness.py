"""One of two workers is lost for good, in whatever way, while four clients map: all ends within
twice the session timeout and the work of the other."""
import os
import signal
import subprocess
import threading
import time

import pytest
from conftest import BIN, FULL, HERE, SLOW, Process, lines, until
from hosts import Network, NoNamespaces, ip

TASKS = HERE / "tasks.py"
SESSION_S = 2
COUNT, SECONDS = (300, 0.02) if FULL else (120, 0.02)
CLIENTS = 4


def within(clients, finish, begin):
    """All four have every result in order, in time."""
    work = CLIENTS * COUNT * SECONDS / 2  # of one worker of two slots
    for client in clients:
        client.join(120 * SLOW)
    took = time.monotonic() - begin
    print(f"{took:.1f} s; the work of one worker is {work:.1f} s")
    for done in finish:
        assert done.returncode == 0, done.stderr
        assert lines(done) == [SECONDS] * COUNT
    assert len(finish) == CLIENTS
    assert took < 2 * SESSION_S + work * 1.3 + 3, took


def start_clients(run):
    finish = []
    clients = [threading.Thread(target=lambda: finish.append(run())) for _ in range(CLIENTS)]
    for client in clients:
        client.start()
    return clients, finish


@pytest.mark.held
@pytest.mark.alone
@pytest.mark.parametrize("fault", ["killed", "stopped", "half open", "cut", "delayed"])
def test_a_worker_that_is_lost_for_good(make_fleet, proxies, fault):
    """reliability, check 2"""
    fleet = make_fleet("--session-timeout", SESSION_S)
    proxy = proxies(fleet.endpoint)
    fleet.worker(2, TASKS)
    lost = Process(BIN / "peach-worker", "--slots", 2, "-l", TASKS,
                   env={"PEACH_BROKER": proxy.endpoint})
    fleet.processes.append(lost)
    until(lambda: fleet.count_ready() == 2, 20)
    clients, finish = start_clients(lambda: fleet(
        "map", "--quiet", "--chunk", 4, "nap", *[SECONDS] * COUNT, timeout=120))
    time.sleep(0.7)
    begin = time.monotonic()
    if fault == "killed":
        lost.signal(signal.SIGKILL)
    elif fault == "stopped":
        lost.signal(signal.SIGSTOP)
    elif fault == "half open":
        proxy.freeze()
        proxy.refusing = True
    elif fault == "cut":
        proxy.refusing = True
        proxy.cut()
    else:
        proxy.paused = True
    within(clients, finish, begin)
    proxy.paused = False


@pytest.fixture
def network():
    """A broker, two workers and a client, each on a host of its own."""
    try:
        made = Network(["broker", "stays", "goes", "client"])
    except NoNamespaces as error:
        pytest.skip(str(error))
    made.start(0, "peach-broker", "--bind", "tcp://0.0.0.0:5001", "--session-timeout",
               str(SESSION_S))
    for host in (1, 2):
        made.start(host, "peach-worker", "--connect", "10.99.0.1", "--slots", "2", "-l", TASKS)
    until(lambda: made.run(3, "workers", "--json", "-c", "10.99.0.1").stdout.count(
        '"state":"ready","silent') == 2, 20)
    yield made
    made.close()


@pytest.mark.held
@pytest.mark.alone
@pytest.mark.parametrize("fault", ["link down", "nothing goes out", "nothing comes in"])
def test_a_host_that_is_lost_for_good(network, fault):
    """reliability, check 2: no end of a connection is told"""
    clients, finish = start_clients(lambda: network.run(
        3, "map", "--quiet", "--chunk", "4", "-c", "10.99.0.1", "nap", *[SECONDS] * COUNT))
    time.sleep(0.7)
    begin = time.monotonic()
    if fault == "link down":
        network.link(2, False)
    elif fault == "nothing goes out":
        ip("-n", network.hosts[2], "route", "add", "blackhole", "10.99.0.1/32")
    else:
        ip("-n", network.hosts[0], "route", "add", "blackhole", "10.99.0.3/32")
    within(clients, finish, begin)


@pytest.mark.held
def test_a_link_that_is_joined_again_in_another_order(network):
    """reliability, "worth keeping": client first or worker first, each item once."""
    job = subprocess.Popen([*network.prefix(3), str(BIN / "peach"), "map", "--quiet", "-c",
                            "10.99.0.1", "nap", *["0.02"] * 500], stdout=subprocess.PIPE, text=True,
                           env=os.environ)
    try:
        time.sleep(1)
        for order in ((3, 1, 2), (2, 3, 1), (1, 2, 3)):
            for host in (1, 2, 3):
                network.link(host, False)
            time.sleep(SESSION_S + 1)
            for host in order:
                network.link(host, True)
                time.sleep(0.3)
            time.sleep(0.5)
        out, _ = job.communicate(timeout=120 * SLOW)
    finally:
        job.kill()
        job.wait()
    assert job.returncode == 0 and out.splitlines() == ["0.02"] * 500
