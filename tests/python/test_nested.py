"""Tasks that call peach themselves: no depth deadlocks a fleet, and nothing is left behind."""
import os
import pathlib
import sys
import time

import cloudpickle
import pytest
from conftest import SLOW

import peach

cloudpickle.register_pickle_by_value(sys.modules[__name__])

MAX_DEPTH = 16  # so many tasks deep a job may be; each level may hold one process of a slot


def tree(depth, fan_out):
    """The number of leaves, counted by the fleet."""
    if depth == 0:
        return 1
    import peach
    return sum(peach.peach(tree, [depth - 1] * fan_out, [fan_out] * fan_out))


def executors(client):
    """The processes of the fleet's workers, and their memory in bytes."""
    found = {}
    for worker in client.status()["workers"]:
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rsplit(")", 1)[1].split()
                if int(fields[1]) == worker["pid"]:
                    pages = int((path.parent / "statm").read_text().split()[1])
                    found[int(path.parent.name)] = pages * os.sysconf("SC_PAGESIZE")
            except OSError:
                pass
    return found


@pytest.mark.parametrize("slots", [1, 4])
def test_four_deep_and_three_wide(make_client, slots):
    client = make_client(slots)
    future = client.submit(tree, 4, 3)
    most, bytes_ = 0, 0
    while not future.done():
        found = executors(client)
        most, bytes_ = max(most, len(found)), max(bytes_, sum(found.values()))
        time.sleep(0.02)
    assert future.result() == 3**4
    bound = min(slots * (1 + MAX_DEPTH), 32)  # and not one a node of the tree: there are 40
    assert most <= bound, most
    assert bytes_ < bound * 100e6
    assert client.map(abs, [-1, -2]) == [1, 2]


def test_futures_inside_of_a_task(make_client):
    client = make_client(1)

    def twice(x):
        import peach
        inner = peach.current().submit(lambda y: y + 1, x)
        return inner.result() * 2

    assert client.map(twice, range(3)) == [2, 4, 6]


def test_an_executor_inside_of_a_task_is_on_its_fleet(make_client):
    client = make_client(1)

    def inner(x):
        import peach
        with peach.Executor() as executor:
            return list(executor.map(abs, [-x, x])), executor._client.slots

    assert client.call(inner, 2) == ([2, 2], 1)


def test_init_inside_of_a_task_is_the_fleet_that_there_is(make_client):
    client = make_client(2)

    def inner(x):
        import peach
        with_init = peach.init(8)
        return with_init.slots, peach.peach(abs, [-x])

    assert client.map(inner, [3]) == [(2, [3])]
    assert client.slots == 2


def test_too_deep_is_an_error_and_not_a_deadlock(make_client):
    client = make_client(1)

    def down(n):
        import peach
        return peach.peach(down, [n + 1])[0]

    with pytest.raises(Exception, match="16 deep"):
        client.call(down, 0)
    assert client.call(abs, -1) == 1


def test_what_a_task_submits_is_cancelled_with_it(make_client, tmp_path):
    client = make_client(2)
    log = str(tmp_path / "log")

    def outer(log):
        import peach
        return peach.peach(inner, [(log, i) for i in range(200)])

    def inner(item):
        with open(item[0], "a") as f:
            f.write("x")
        time.sleep(0.2)

    with pytest.raises(peach.Timeout):
        client.options(timeout=1.5 * SLOW).call(outer, log)
    until = time.monotonic() + 5 * SLOW
    while client.status()["queued_tasks"] or client.status()["running_tasks"]:
        assert time.monotonic() < until
        time.sleep(0.05)
    ran = len(pathlib.Path(log).read_text())
    time.sleep(0.5)
    assert len(pathlib.Path(log).read_text()) == ran < 50 * SLOW


@pytest.mark.alone
def test_what_a_task_submits_ends_when_its_process_dies(make_client):
    client = make_client(2)

    def outer():
        import peach
        job = peach.current().submit(time.sleep, 60)
        while not job.running():
            time.sleep(0.01)
        os._exit(1)

    with pytest.raises(peach.TaskLost):
        client.options(retries=0).submit(outer).result(20)
    # At once: a client whose connection is gone is only given up after some seconds.
    until = time.monotonic() + 1.5 * SLOW
    while client.status()["running_tasks"]:
        assert time.monotonic() < until, client.status()
        time.sleep(0.05)


def test_a_task_knows_who_and_where_it_is(client):
    assert peach.current_task() is None

    def who(x):
        import peach
        return peach.current_task()

    first, second = client.map(who, range(2))
    assert (first.item, second.item, first.depth) == (0, 1, 0)
    assert first.function.endswith("who") and first.pid in executors(client)
    assert first.slot in (0, 1) and first.host == os.uname().nodename

    def deeper(x):
        import peach
        return peach.peach(lambda _: peach.current_task().depth, [0])

    assert client.call(deeper, 0) == [1]


def test_seats_in_the_place_of_those_that_waited_go_again(make_client):
    client = make_client(1)
    assert client.call(tree, 2, 2) == 4
    before = len(executors(client))
    assert before > 1
    until = time.monotonic() + 20
    while len(executors(client)) > 1:
        assert time.monotonic() < until
        time.sleep(0.2)
    assert client.call(tree, 1, 2) == 2
