"""Several brokers: workers serve all of a list, a client uses one and moves on."""
import signal
import time

import pytest
from conftest import BIN, HERE, Fleet, Process, lines, until

TASKS = HERE / "tasks.py"


@pytest.fixture
def pair(make_fleet):
    first, second = make_fleet(), make_fleet()
    both = f"{first.endpoint},{second.endpoint}"
    worker = first.start("peach-worker", "--connect", both, "--slots", 2, "-l", TASKS)
    until(lambda: first.count_ready() == 1 and second.count_ready() == 1, 20)
    return first, second, both, worker


def test_a_worker_serves_all_its_brokers(pair):
    for fleet in pair[:2]:
        assert lines(fleet("map", "fnc", "0..99", check=0)) == list(range(100))


def test_a_client_starts_with_the_first_broker_that_answers(pair):
    first, second, both, _ = pair
    first.broker.stop()
    assert lines(first("map", "-c", both, "fnc", "0..9", check=0)) == list(range(10))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_client_moves_on_when_its_broker_goes(pair, how):
    first, second, both, _ = pair
    job = first.start("peach", "map", "-c", both, "nap", *["0.03"] * 100)
    until(lambda: first.view()["running_tasks"] > 0, 10)
    time.sleep(0.5)
    first.broker.signal(how)
    assert job.wait(60) == 0
    assert job.said().count("0.03") == 100


def test_two_brokers_share_the_slots_of_a_worker(pair):
    first, second, _, _ = pair
    jobs = [fleet.start("peach", "map", "nap", *["0.02"] * 50) for fleet in (first, second)]
    assert [job.wait(30) for job in jobs] == [0, 0]
    assert all(job.said().count("0.02") == 50 for job in jobs)


def test_a_drained_worker_stays_until_all_its_brokers_let_it_go(pair):
    first, second, _, worker = pair
    first("drain", "--all", check=0)
    time.sleep(0.5)
    assert worker.process.poll() is None
    assert lines(second("map", "fnc", "0..9", check=0)) == list(range(10))
    second("drain", "--all", check=0)
    assert worker.wait() == 0
