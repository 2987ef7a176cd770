"""With --retries 0 no item begins twice, whatever is lost; and what had not begun when a broker
was lost runs."""
import collections
import json
import random
import signal
import threading
import time

import pytest
from conftest import BIN, FULL, HERE, SLOW, Process, lines, until

TASKS = HERE / "tasks.py"


def runs(path):
    return collections.Counter(path.read_text().split()) if path.exists() else collections.Counter()


def check(done, path, count, lost_as=("PEACH_E_LOST",)):
    """Each item ended once and began once at most; how many were lost without having begun."""
    results = lines(done)
    assert len(results) == count, (len(results), done.stderr)
    begun = runs(path)
    assert max(begun.values()) == 1, begun.most_common(3)
    lost = [i for i, x in enumerate(results) if isinstance(x, dict)]
    for i, result in enumerate(results):
        if isinstance(result, dict):
            assert result["error"]["status"] in lost_as, result
        else:
            assert result == i and begun[str(i)] == 1
    unbegun = [i for i in lost if begun[str(i)] == 0]
    if unbegun:
        print("never begun:", *[results[i] for i in unbegun[:5]], sep="\n    ")
    print(f"{count} items: {count - len(lost)} ran, {len(lost)} were lost, "
          f"of which {len(unbegun)} had never begun")
    return len(lost), len(unbegun)


def start_map(fleet, path, count, seconds, *options):
    """seconds: of each item, or of those behind the first ones, which take none."""
    seconds = [seconds] * count if isinstance(seconds, (int, float)) else \
        [0] * (count - len(seconds)) + seconds
    items = "\n".join(json.dumps([str(path), i, seconds[i]]) for i in range(count))
    result = {}
    thread = threading.Thread(target=lambda: result.update(
        done=fleet("map", "--quiet", "--retries", 0, *options, "note", "-", stdin=items,
                   timeout=300)))
    thread.start()
    return thread, result


def test_brokers_that_are_killed_each_second(make_fleet, tmp_path):
    """reliability.R9 and check 6: 786 of 2,000 items were lost, 731 of which had never run."""
    fleet = make_fleet("--session-timeout", 4)
    for _ in range(2):
        fleet.worker(2, TASKS)
    count, kills = (2000, 30) if FULL else (500, 6)
    path = tmp_path / "runs"
    thread, result = start_map(fleet, path, count, 0.05 if FULL else 0.04)
    until(path.exists, 20)
    for _ in range(kills):
        time.sleep(1)
        fleet.lose_broker()
    thread.join()
    lost, unbegun = check(result["done"], path, count)
    assert lost < count / 4
    assert unbegun <= (lost * 0.05 if FULL else kills)  # orders that were on their way


@pytest.mark.parametrize("chunk, seconds", [(25, 0.04), (None, 0.001)])
def test_what_waits_behind_an_item_runs(make_fleet, tmp_path, chunk, seconds):
    """reliability.R9: the items of a chunk behind the one that ran, and tasks that wait at a
    worker, were lost with the broker, too."""
    fleet = make_fleet("--session-timeout", 4)
    fleet.worker(2, TASKS)
    count = 200 if chunk else 4000
    path = tmp_path / "runs"
    thread, result = start_map(fleet, path, count, seconds, *(["--chunk", chunk] if chunk else []))
    for turn in range(3):
        until(lambda: len(runs(path)) > (turn + 1) * count / 8, 30)
        fleet.lose_broker()
    thread.join()
    lost, unbegun = check(result["done"], path, count)
    # At a kill some items of each slot end before their worker knows of it.
    assert lost - unbegun <= (3 * 2 * 5 if chunk else count / 10)
    assert unbegun <= (3 * 2 if chunk else count / 50)  # orders that were on their way


def test_a_lost_session_leaves_no_client_waiting(fleet, script):
    """reliability.R1: 779 of 2000 lines, then nothing, for ever."""
    fleet.worker(2, script("import time\ndef f(x):\n    time.sleep(0.005)\n    return 1\n"))
    client = fleet.start("peach", "map", "--quiet", "--retries", 0, "f", "0..1999")
    until(lambda: client.said().count("\n") > 200, 20)
    fleet.lose_broker()
    client.wait(60)
    said = client.said().splitlines()
    assert len([x for x in said if x == "1" or "PEACH_E_LOST" in x]) == 2000
    assert said.count("1") > 1900


@pytest.mark.parametrize("how", ["cut", "half open", "stopped"])
def test_a_session_that_was_lost_on_the_way(make_fleet, proxies, tmp_path, how):
    """reliability.R1: the link cut, packets dropped, or the client stopped, for longer than a
    session lives."""
    fleet = make_fleet("--session-timeout", 1)
    fleet.worker(2, TASKS)
    proxy = proxies(fleet.endpoint)
    path = tmp_path / "runs"
    items = "\n".join(json.dumps([str(path), i, 0.01]) for i in range(600))
    (tmp_path / "items").write_text(items)
    client = Process(BIN / "peach", "map", "--quiet", "--retries", 0, "note", f"@{tmp_path}/items",
                     env={"PEACH_BROKER": proxy.endpoint})
    fleet.processes.append(client)
    until(lambda: len(runs(path)) > 50, 20)
    if how == "cut":
        proxy.refusing = True
        proxy.cut()
    elif how == "half open":
        proxy.freeze()
        proxy.refusing = True
    else:
        client.signal(signal.SIGSTOP)
    until(lambda: not fleet.view()["jobs"], 20)  # its session is over
    proxy.refusing = False
    client.signal(signal.SIGCONT)
    client.wait(60)
    assert max(runs(path).values()) == 1
    said = [json.loads(x) for x in client.said().splitlines() if not x.startswith("peach: ")]
    assert len(said) == 600
    assert all(x == i or x["error"]["status"] == "PEACH_E_LOST" for i, x in enumerate(said))


def test_items_that_end_at_the_client_are_counted_as_those_that_come(make_fleet):
    """reliability.R1 without any failure: a broker's limit; 68 of 1,060 lines, then it hung."""
    fleet = make_fleet("--max-payload", 1)
    fleet.worker(2, TASKS)
    text = "\n".join(['"' + "x" * 1_100_000 + '"'] * 60 + [str(i) for i in range(1000)])
    done = fleet("map", "--quiet", "fnc", "-", stdin=text, timeout=60)
    got = lines(done)
    assert got[60:] == list(range(1000))
    assert all(x["error"]["status"] == "PEACH_E_LIMIT" for x in got[:60])


def test_the_next_broker_of_the_list_hears_what_had_begun(make_fleet, tmp_path):
    """reliability.R9, back and forth between two brokers."""
    fleets = [make_fleet("--session-timeout", 4) for _ in range(2)]
    both = ",".join(f.endpoint for f in fleets)
    dice = random.Random(6)
    for _ in range(2):
        fleets[0].processes.append(Process(BIN / "peach-worker", "--slots", 2, "-l", TASKS,
                                           "--connect", both))
    until(lambda: all(f.count_ready() == 2 for f in fleets), 20)
    fleets[0].env["PEACH_BROKER"] = both
    path, count = tmp_path / "runs", 400
    thread, result = start_map(fleets[0], path, count, 0.04)
    until(path.exists, 20)
    for turn in range(4):
        time.sleep(dice.uniform(0.7, 1.3))
        fleets[turn % 2].lose_broker()
    thread.join()
    lost, unbegun = check(result["done"], path, count)
    assert lost < count / 4 and unbegun <= 4 * 2  # at each kill orders that were on their way


def test_a_broker_that_was_away_hears_it_too(make_fleet, proxies, tmp_path):
    """What had not begun at a broker that is lost, told once the way to the next one is there."""
    lost, next_one = make_fleet("--session-timeout", 2), make_fleet("--session-timeout", 60)
    proxy = proxies(next_one.endpoint)
    lost.processes.append(Process(BIN / "peach-worker", "--slots", 1, "-l", TASKS, "--connect",
                                  f"{lost.endpoint},{proxy.endpoint}"))
    until(lambda: lost.count_ready() == next_one.count_ready() == 1, 20)
    lost.env["PEACH_BROKER"] = f"{lost.endpoint},{next_one.endpoint}"
    # The first ones are short, so that others are given ahead and wait behind a long one.
    path, count = tmp_path / "runs", 306
    thread, result = start_map(lost, path, count, [1.5] * 6, "--chunk", 1)
    end = time.monotonic() + 20 * SLOW
    while (len(runs(path)) if path.exists() else 0) <= count - 6:
        assert time.monotonic() < end
    lost.broker.signal(signal.SIGKILL)
    proxy.refusing = True
    proxy.cut()
    lost.processes.remove(lost.broker)
    time.sleep(4)  # the worker has given that session up
    assert thread.is_alive()
    proxy.refusing = False
    thread.join(30 * SLOW)
    assert not thread.is_alive()
    # And results of short ones that had not come through.
    begun, unbegun = check(result["done"], path, count)
    assert begun < 100 and unbegun == 0


@pytest.mark.held
def test_items_that_no_worker_takes_are_told(fleet):
    """A map without retries waits for a slot before it sends anything; also for the first one."""
    done = fleet("map", "--quiet", "--retries", 0, "--queue-timeout", 1, "f", 1, check=1)
    assert "no worker" in done.stderr or "PEACH_E_NO_FUNCTION" in done.stdout, done


@pytest.mark.parametrize("chunk", [1, 50])
def test_a_worker_that_is_told_to_stop_at_once(fleet, tmp_path, chunk):
    """What it had reported to nobody yet ran again at another worker."""
    path, count = tmp_path / "ran", 3000
    thread, result = start_map(fleet, path, count, 0.001, "--chunk", chunk)
    for _ in range(6):
        worker = fleet.worker(2, TASKS)
        seen = len(runs(path)) if path.exists() else 0
        until(lambda: path.exists() and len(runs(path)) > seen + 50, 30)
        for _ in range(2):
            worker.signal(signal.SIGTERM)
            time.sleep(0.01)
        worker.wait(20)
    fleet.worker(2, TASKS)
    thread.join()
    check(result["done"], path, count, lost_as=("PEACH_E_LOST", "PEACH_E_DIED"))
