"""peach bench measures and says so; the figures themselves are tests/bench's."""
import json

from conftest import HERE, peach

PARTS = {"tasks", "items", "latency_p50", "latency_p90", "latency_p99", "latency_p999", "bulk",
         "balance"}


def test_a_fleet_of_its_own(fleet):
    done = peach("bench", "-n", 2, "--runs", 1, "--json", check=0)
    report = json.loads(done.stdout)
    costs = {"broker_cpu", "worker_cpu", "client_cpu", "broker_memory", "worker_memory"}
    assert set(report) == PARTS | costs | {"start", "slots"} and report["slots"] == 2
    assert all(report[name]["median"] > 0 for name in PARTS)
    # one thread sleeps less than it asked for at no time
    assert 0 < report["balance"]["median"] <= 1
    table = peach("bench", "-n", 1, "--runs", 3, "--only", "maps", check=0).stdout
    assert "tasks/s" in table and "the median of 3 runs" in table and "MB/s" not in table


def test_the_fleet_that_is_there(fleet):
    fleet.worker(2, HERE / "tasks.py")
    report = json.loads(fleet("bench", "--runs", 1, "--json", "--only", "latency", check=0).stdout)
    assert set(report) == {"slots", "latency_p50", "latency_p90", "latency_p99", "latency_p999"}
    quantiles = [report[f"latency_{p}"]["median"] for p in ("p50", "p90", "p99", "p999")]
    assert quantiles == sorted(quantiles)


def test_what_cannot_be_measured(fleet):
    assert "is none of" in peach("bench", "--only", "everything", check=2).stderr
    assert "no arguments" in peach("bench", "fnc", check=2).stderr
    assert "no workers" in fleet("bench", "--timeout", 5, check=1).stderr
