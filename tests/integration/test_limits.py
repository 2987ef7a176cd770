"""Time limits, deadlines, memory limits, recycling, cancelling, retries of errors."""
import os
import signal
import time

import pytest
from conftest import HERE, SLOW, lines, memory, peach, until

TASKS = HERE / "tasks.py"


def error_of(line):
    return line["error"]["status"], line["error"]["message"]


def test_an_item_over_its_time_is_interrupted_and_its_mates_are_not():
    begin = time.monotonic()
    done = peach("run", "-n", 2, "-l", TASKS, "--item-timeout", 0.4, "--chunk", 3, "nap",
                 0.01, 30, 0.02, 0.03, check=1)
    got = lines(done)
    assert [got[0], got[2], got[3]] == [0.01, 0.02, 0.03]
    status, message = error_of(got[1])
    assert status == "PEACH_E_TIMEOUT" and "0.4 s" in message
    assert time.monotonic() - begin < 2.5 * SLOW  # not by a kill


def test_an_item_that_does_not_stop_is_killed_with_its_executor(fleet):
    fleet.worker(1, TASKS, args=("--grace", "0.3"))
    done = fleet("map", "--item-timeout", 0.3, "--chunk", 3, "stubborn", 0.05, 20, 0.06, check=1)
    got = lines(done)
    assert [got[0], got[2]] == [0.05, 0.06]
    assert error_of(got[1])[0] == "PEACH_E_TIMEOUT" and "killed" in error_of(got[1])[1]
    assert "attempts" not in got[1]["error"]  # a time limit is final


def test_a_worker_has_a_limit_of_its_own(fleet):
    fleet.worker(1, TASKS, args=("--item-timeout", "0.3"))
    got = lines(fleet("map", "nap", 10, 0.01, check=1))
    status, message = error_of(got[0])
    assert status == "PEACH_E_TIMEOUT" and "0.3 s" in message and got[1] == 0.01


def test_a_native_function_is_asked_to_stop_and_killed_if_it_does_not(fleet, tmp_path):
    import subprocess
    source = tmp_path / "loops.c"
    source.write_text("""
        #include <peach/plugin.h>
        static peach_value_t *polite(peach_call_t *call, const peach_value_t *const *args, size_t n)
        { (void)args; (void)n; while (!peach_call_cancelled(call)) {}
          return peach_call_fail(call, "stopped"); }
        static peach_value_t *deaf(peach_call_t *call, const peach_value_t *const *args, size_t n)
        { (void)call; (void)args; (void)n; for (;;) {} return NULL; }
        int peach_plugin_init(peach_plugin_t *p)
        { int rc = peach_plugin_function(p, "polite", polite);
          return rc ? rc : peach_plugin_function(p, "deaf", deaf); }
    """)
    plugin = tmp_path / "loops.so"
    subprocess.run(["cc", "-O0", "-shared", "-fPIC", "-I", HERE.parents[1] / "client" / "include",
                    source, "-o", plugin], check=True)
    fleet.worker(1, plugin, args=("--grace", "0.3"))
    for function in ("polite", "deaf"):
        got = lines(fleet("map", "--item-timeout", 0.3, function, 1, check=1))
        assert error_of(got[0])[0] == "PEACH_E_TIMEOUT"


def test_a_job_ends_at_its_deadline(fleet):
    fleet.worker(2, TASKS)
    begin = time.monotonic()
    got = lines(fleet("map", "--deadline", 1, "nap", 0.01, 0.02, *[20] * 6, check=1))
    assert time.monotonic() - begin < 4 * SLOW
    assert got[:2] == [0.01, 0.02]
    assert {error_of(x)[0] for x in got[2:]} == {"PEACH_E_TIMEOUT"} and len(got) == 8
    until(lambda: fleet.view()["running_tasks"] == 0, 10)


def test_a_deadline_counts_without_a_broker(fleet):
    fleet.worker(2, TASKS)
    job = fleet.start("peach", "map", "--deadline", 2, "nap", *["0.5"] * 1000)
    until(lambda: fleet.view()["running_tasks"] > 0, 10)
    fleet.broker.signal(signal.SIGKILL)
    assert job.wait(15) == 1
    assert job.said().count("\n") >= 1000


def test_a_task_that_nobody_begins_fails_after_its_time_in_the_queue(fleet):
    fleet.worker(1, TASKS)
    got = lines(fleet("map", "--queue-timeout", 0.4, "--chunk", 1, "nap", 1.5, 0.01, 0.01, check=1))
    assert got[0] == 1.5
    assert error_of(got[1])[0] == "PEACH_E_TIMEOUT" and "queue" in error_of(got[1])[1]


def test_an_executor_over_its_memory_is_killed_and_told_so(fleet):
    fleet.worker(2, TASKS, args=("--memory", "200"))
    got = lines(fleet("map", "--retries", 1, "eats", 10, 400, 11, check=1))
    assert [got[0], got[2]] == [10, 11]
    error = got[1]["error"]
    assert error["status"] == "PEACH_E_DIED" and "over its limit of 200" in error["message"]
    assert len(error["attempts"]) == 2


def test_an_executor_is_replaced_after_so_many_items():
    got = lines(peach("run", "-n", 1, "-l", TASKS, "--recycle", 10, "--chunk", 1, "process",
                      "0..59", check=0))
    assert len(set(got)) == 6


def test_errors_are_retried_if_asked(fleet, tmp_path):
    fleet.worker(2, TASKS)
    path = tmp_path / "a"
    got = lines(fleet("map", "--retry-errors", "flaky", f'"{path}"', check=0))
    assert got == [3]
    got = lines(fleet("map", "flaky", f'"{tmp_path / "b"}"', check=1))
    assert "run 1" in error_of(got[0])[1]
    got = lines(fleet("map", "--retry-errors", "--retries", 1, "flaky", f'"{tmp_path / "c"}"', check=1))
    assert "run 2" in error_of(got[0])[1]


def test_ctrl_c_stops_what_runs_even_if_it_does_not_want_to(fleet):
    """dask 2617, 391; ipyparallel 141: running work cannot be stopped."""
    fleet.worker(2, TASKS, args=("--grace", "0.5"))
    job = fleet.start("peach", "map", "stubborn", *["60"] * 4)
    until(lambda: fleet.view()["running_tasks"] >= 2, 10)
    begin = time.monotonic()
    job.signal(signal.SIGINT)
    assert job.wait(10) == 130
    until(lambda: fleet.view()["running_tasks"] == 0, 10)
    assert time.monotonic() - begin < 5 * SLOW
    assert lines(fleet("map", "fnc", 1, check=0)) == [1]


@pytest.mark.alone
def test_a_requirement_that_no_worker_meets_is_said_at_once(fleet):
    fleet.worker(1, TASKS)
    begin = time.monotonic()
    done = fleet("map", "--require", "gpu=1", "fnc", 1, check=1)
    assert time.monotonic() - begin < 1.5 * SLOW
    assert "gpu=1" in done.stderr


@pytest.mark.parametrize("where", ["flag", "file"])
def test_times_come_from_flags_and_from_a_file(make_fleet, tmp_path, monkeypatch, where):
    path = tmp_path / "peach.json"
    path.write_text('{"broker": {"session-timeout": 0.6, "heartbeat": 0.1}, "worker": {"slots": 3}}')
    options = ("--session-timeout", "0.6", "--heartbeat", "0.1")
    if where == "file":
        monkeypatch.setenv("PEACH_CONFIG", str(path))
        options = ()
    fleet = make_fleet(*options)
    args = ("--slots", "1") if where == "flag" else ()
    worker = fleet.start("peach-worker", "-l", TASKS, *args)
    until(lambda: fleet.count_ready() == 1, 20)
    assert fleet.workers()[0]["slots"] == (3 if where == "file" else 1)
    worker.signal(signal.SIGSTOP)
    begin = time.monotonic()
    until(lambda: not fleet.workers(), 10)
    assert time.monotonic() - begin < 3 * SLOW
    worker.signal(signal.SIGCONT)
    until(lambda: fleet.count_ready() == 1, 10)


@pytest.mark.parametrize("text,told", [("{", "line 1"), ('{"broker": {"bnd": 1}}', "bnd"),
                                       ('{"broker": {"verbose": "x"}}', "true or false")])
def test_a_configuration_that_is_wrong_is_told(tmp_path, text, told):
    path = tmp_path / "peach.json"
    path.write_text(text)
    done = peach("broker", env={"PEACH_CONFIG": str(path)}, check=2)
    assert told in done.stderr and str(path) in done.stderr


def test_the_brokers_memory_is_bounded_by_its_option(make_fleet):
    """Tasks of 1 MiB each, far more than fit: the client waits, nothing is lost."""
    fleet = make_fleet("--memory", "16")
    fleet.worker(1, TASKS)
    item = '"' + "x" * (1 << 20) + '"'
    done = fleet("map", "--quiet", "--chunk", 1, "length", "-", stdin="\n".join([item] * 100),
                 check=0, timeout=120)
    assert lines(done) == [1 << 20] * 100
    peak = memory(fleet.broker.pid, "VmHWM")
    print(f"peak memory of the broker: {peak:.0f} MiB")
    if SLOW == 1:
        assert peak < 100
    assert os.path.exists(f"/proc/{fleet.broker.pid}")


def test_an_import_is_not_left_half_done(fleet, script, tmp_path):
    """Found by chaos: numpy that was interrupted at its import lacked half of its names for all
    items that came later to that executor."""
    said = tmp_path / "said"
    (tmp_path / "takes_long.py").write_text(
        f"import time\nsaid = open({str(said)!r}, 'a')\nprint('begun', file=said, flush=True)\n"
        "end = time.monotonic() + 1\nwhile time.monotonic() < end:\n    pass\n"
        "print('whole', file=said, flush=True)\nV = 7\n")
    fleet.worker(1, script(f"import sys, time\nsys.path.append({str(tmp_path)!r})\n"
                           "def imports(seconds):\n    import takes_long\n"
                           "    time.sleep(seconds)\n    return takes_long.V\n"))
    got = lines(fleet("map", "--quiet", "--item-timeout", 0.3, "--retries", 0, "imports", 60,
                      check=1))
    assert got[0]["error"]["status"] == "PEACH_E_TIMEOUT"
    assert lines(fleet("map", "--quiet", "imports", 0, check=0)) == [7]
    assert said.read_text().split() == ["begun", "whole"]
