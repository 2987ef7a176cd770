"""A broker, workers that come and go, init and preloads."""
import os
import signal
import time

import pytest
from conftest import BIN, EXAMPLES, HERE, Process, cpu_seconds, executors, lines, peach, until

TASKS = HERE / "tasks.py"
MULTIP = EXAMPLES / "multip.py"


@pytest.mark.alone
def test_an_unknown_function_fails_soon_and_init_makes_it_known(fleet):
    fleet.worker(4)
    begin = time.monotonic()
    done = fleet("map", "fnc", "0..9", check=1)
    assert time.monotonic() - begin < 1.2
    assert "fnc" in done.stderr and done.stdout == ""
    fleet("init", "-n", 4, "-l", MULTIP, check=0)
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))
    assert fleet.view()["slots"] == 4  # nothing was missing, nothing was started


def test_a_late_worker_has_what_was_preloaded_before_it_came(fleet):
    first = fleet.worker(1)
    fleet("preload", MULTIP, check=0)
    fleet.worker(2)
    first.stop()
    until(lambda: fleet.view()["slots"] == 2, 15)
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))


def test_init_starts_only_what_is_missing(fleet):
    done = fleet("init", "-n", 2, "-l", MULTIP, "--json", check=0)
    assert lines(done) == [{"started": 2}]
    done = fleet("init", "-n", 3, "-l", MULTIP, "--json", check=0)
    assert lines(done) == [{"started": 1}]
    done = fleet("init", "-n", 2, "--json", check=0)
    assert lines(done) == [{"started": 0}]
    assert sorted(w["slots"] for w in fleet.workers()) == [1, 2]
    fleet("init", "-n", 4, check=0)  # it waits for what was preloaded before, too
    assert fleet.count_ready() == 3
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))


def test_map_waits_for_a_preload_that_takes_its_time(fleet, script):
    slow = script("import time\ntime.sleep(2)\ndef late(x):\n    return x * 2\n")
    fleet.worker(2)
    init = fleet.start("peach", "init", "-n", "2", "-l", slow)
    time.sleep(0.3)
    assert lines(fleet("map", "late", "0..4", check=0)) == [0, 2, 4, 6, 8]
    assert init.wait() == 0


@pytest.mark.alone
def test_a_preload_that_raises_fails_init_with_its_traceback(fleet, script):
    bad = script("def f(x):\n    return x\nraise RuntimeError('broken on purpose')\n")
    fleet.worker(2, TASKS)
    begin = time.monotonic()
    done = fleet("init", "-n", 2, "-l", bad, check=1)
    assert time.monotonic() - begin < 1.5
    assert "RuntimeError: broken on purpose" in done.stderr and "script.py" in done.stderr
    assert "f" not in {f["name"] for f in fleet.view()["functions"]}
    assert lines(fleet("map", "fnc", "0..3", check=0)) == [0, 1, 2, 3]
    # It failed everywhere: those that come later are not given it.
    fleet.worker(1)
    assert all(len(w["preloads"]) < 2 or w["slots"] == 2 for w in fleet.workers())


def test_a_preload_that_kills_its_executor_is_told_and_the_worker_lives(fleet, script):
    deadly = script("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    fleet.worker(1, TASKS)
    done = fleet("preload", deadly, check=1)
    assert "signal 11" in done.stderr
    assert lines(fleet("map", "fnc", 1, check=0)) == [1]


def test_a_worker_says_what_it_has_and_where(fleet):
    fleet.worker(2, TASKS, args=("--label", "gpu=1"))
    worker = fleet.workers()[0]
    assert worker["slots"] == 2 and worker["labels"] == {"gpu": "1"}
    assert worker["host"] == os.uname().nodename and worker["state"] == "ready"
    assert len(worker["preloads"][0]["digest"]) == 64
    functions = {f["name"]: f for f in fleet.view()["functions"]}
    assert functions["tasks.fnc"]["preload"] == "tasks.py" and functions["fnc"]["slots"] == 2
    assert "tasks.py" in fleet("workers", check=0).stdout
    assert "fnc" in fleet("functions", check=0).stdout
    assert "1 worker, 2 slots" in fleet("status", check=0).stdout


def test_two_versions_of_one_script_are_shown(fleet, tmp_path):
    for version in (1, 2):
        folder = tmp_path / str(version)
        folder.mkdir()
        (folder / "same.py").write_text(f"def f(x):\n    return {version}\n")
        fleet.worker(1, folder / "same.py")
    versions = [f for f in fleet.view()["functions"] if f["name"] == "f"]
    assert len({f["digest"] for f in versions}) == 2
    assert "several versions" in fleet("functions", check=0).stdout


def test_requirements_choose_the_worker(fleet):
    fleet.worker(1, TASKS)
    gpu = fleet.worker(1, TASKS, args=("--label", "gpu=1"))
    done = fleet("map", "--require", "gpu=1", "pid", "0..9", check=0)
    assert set(lines(done)) <= set(executors(gpu))
    done = fleet("map", "--require", "gpu=2", "pid", 0, check=1)
    assert "label" in done.stderr


def test_call_spreads_its_arguments(fleet):
    fleet.worker(1, TASKS)
    assert lines(fleet("call", "add", 2, 40, check=0)) == [42]
    assert "TypeError" in fleet("call", "add", 2, check=1).stderr


def test_workers_may_start_before_the_broker(fleet):
    fleet.broker.stop()
    worker = fleet.start("peach-worker", "--slots", 2, "-l", TASKS)
    time.sleep(0.5)
    fleet.start_broker()
    until(lambda: fleet.count_ready() == 1, 10)
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))
    assert worker.process.poll() is None


def test_a_map_without_workers_waits_for_them(fleet):
    waiting = fleet.start("peach", "map", "fnc", "0..3")
    until(lambda: "no workers" in waiting.said(), 5)
    fleet.worker(1, TASKS)
    assert waiting.wait() == 0
    assert waiting.said().split("\n")[-5:-1] == ["0", "1", "2", "3"]


def test_executors_die_with_their_supervisor(fleet):
    worker = fleet.worker(2, TASKS)
    children = executors(worker)
    assert len(children) == 2
    busy = fleet.start("peach", "map", "hold_gil", "20", "20")
    time.sleep(0.3)
    worker.signal(signal.SIGKILL)
    until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in children), 3)
    busy.stop()


def test_a_killed_worker_loses_no_item(fleet):
    victim = fleet.worker(2, TASKS)
    fleet.worker(2, TASKS)
    job = fleet.start("peach", "map", "nap", *["0.05"] * 60)
    time.sleep(0.5)
    victim.signal(signal.SIGKILL)
    assert job.wait(30) == 0
    assert job.said().count("0.05") == 60


def test_a_killed_executor_is_started_again(fleet):
    worker = fleet.worker(1, TASKS)
    for _ in range(3):
        pid = lines(fleet("map", "pid", 0, check=0))[0]
        os.kill(pid, signal.SIGKILL)
        until(lambda: lines(fleet("map", "pid", 0, check=0))[0] != pid, 10)
    assert worker.process.poll() is None


def test_a_task_that_holds_the_gil_is_not_declared_dead(make_fleet):
    fleet = make_fleet("--session-timeout", "2")
    fleet.worker(1, TASKS)
    seconds = int(os.environ.get("PEACH_GIL_SECONDS", "5"))
    done = fleet("map", "hold_gil", seconds, check=0, timeout=seconds + 30)
    assert lines(done) == [seconds]
    assert fleet.view()["retried_items"] == 0


def test_at_most_once_means_at_most_once(fleet, tmp_path):
    worker = fleet.worker(1, TASKS)
    path = tmp_path / "ran"
    job = fleet.start("peach", "map", "--retries", "0", "once", f'"{path}"')
    until(path.exists, 10)
    worker.signal(signal.SIGKILL)
    fleet.worker(1, TASKS)
    assert job.wait(30) == 1 and "PEACH_E_LOST" in job.said()
    assert path.read_text() == "ran\n"


def test_cancelling_stops_what_runs(fleet):
    fleet.worker(2, TASKS)
    job = fleet.start("peach", "map", "nap", *["30"] * 4)
    until(lambda: fleet.view()["running_tasks"] >= 2, 10)
    job.signal(signal.SIGINT)
    assert job.wait(10) == 130
    until(lambda: fleet.view()["running_tasks"] == 0, 10)
    assert lines(fleet("map", "fnc", 1, check=0)) == [1]  # and hits nobody else


def test_a_client_that_is_killed_frees_its_slots(fleet):
    fleet.worker(1, TASKS)
    job = fleet.start("peach", "map", "nap", "30", "30")
    until(lambda: fleet.view()["running_tasks"] == 1, 10)
    job.signal(signal.SIGKILL)
    begin = time.monotonic()
    assert lines(fleet("map", "fnc", 1, check=0)) == [1]
    assert time.monotonic() - begin < 10


def test_drained_workers_finish_and_go(fleet):
    worker = fleet.worker(1, TASKS)
    job = fleet.start("peach", "map", "nap", "0.5")
    until(lambda: fleet.view()["running_tasks"] == 1, 10)
    fleet("drain", "--all", check=0)
    assert job.wait() == 0 and worker.wait() == 0
    assert fleet.workers() == []
    assert fleet("drain", "--all", check=1)


def test_a_worker_that_is_told_to_stop_finishes_what_it_runs(fleet):
    worker = fleet.worker(1, TASKS)
    job = fleet.start("peach", "map", "nap", "0.5")
    until(lambda: fleet.view()["running_tasks"] == 1, 10)
    worker.signal(signal.SIGTERM)
    assert job.wait() == 0 and worker.wait() == 0


def test_a_drained_broker_finishes_and_goes(fleet):
    fleet.worker(1, TASKS)
    job = fleet.start("peach", "map", "nap", "0.5")
    until(lambda: fleet.view()["running_tasks"] == 1, 10)
    fleet("drain", "--broker", check=0)
    assert job.wait() == 0 and fleet.broker.wait() == 0


def test_a_broker_that_is_drained_and_started_again_hands_over_without_an_error(fleet):
    fleet.worker(2, TASKS)
    job = fleet.start("peach", "map", "nap", *["0.05"] * 80)
    time.sleep(0.5)
    fleet.broker.signal(signal.SIGTERM)
    assert fleet.broker.wait() == 0
    fleet.start_broker()
    assert job.wait(30) == 0
    assert job.said().count("0.05") == 80


def test_a_restarted_broker_is_found_again_and_nothing_is_lost(fleet):
    fleet.worker(2, TASKS)
    job = fleet.start("peach", "map", "nap", *["0.05"] * 80)
    time.sleep(0.5)
    fleet.broker.signal(signal.SIGKILL)
    fleet.broker.wait()
    fleet.start_broker()
    assert job.wait(30) == 0
    assert job.said().count("0.05") == 80


def test_at_most_once_holds_when_the_broker_is_lost(fleet, tmp_path, script):
    path = tmp_path / "ran"
    note = script(f"""
import time
def note(x):
    with open({str(path)!r}, "a") as file:
        file.write(f"{{x}}\\n")
    time.sleep(0.2)
    return x
""")
    fleet.worker(2, note)
    job = fleet.start("peach", "map", "--retries", "0", "note", "0..9")
    until(lambda: path.exists() and len(path.read_text().split()) >= 4, 10)
    fleet.broker.signal(signal.SIGKILL)
    fleet.broker.wait()
    fleet.start_broker()
    assert job.wait(30) == 1 and "PEACH_E_LOST" in job.said()
    ran = path.read_text().split()
    assert len(ran) == len(set(ran))


@pytest.mark.alone
def test_two_clients_share_the_fleet(fleet):
    fleet.worker(2, TASKS)
    long = fleet.start("peach", "map", "nap", *["0.05"] * 200)
    until(lambda: fleet.view()["running_tasks"] > 0, 10)
    begin = time.monotonic()
    fleet("map", "fnc", "0..9", check=0)
    assert time.monotonic() - begin < 2
    assert long.process.poll() is None


def test_a_plugin_only_worker_never_loads_python(fleet):
    worker = fleet.worker(2, BIN.parent / "examples" / "mathx.so")
    assert lines(fleet("map", "square", "1..3", check=0)) == [1, 4, 9]
    children = executors(worker)
    for pid in [worker.pid, *children]:
        maps = open(f"/proc/{pid}/maps").read()
        assert "libpython" not in maps and "libzmq" in maps


def test_a_pushed_plugin_and_module_arrive(fleet):
    fleet.worker(2)
    fleet("preload", BIN.parent / "examples" / "mathx.so", "math:sqrt", check=0)
    assert lines(fleet("map", "square", 3, check=0)) == [9]
    assert lines(fleet("map", "sqrt", 16, check=0)) == [4]


def test_a_new_version_of_a_preload_replaces_the_old_one(fleet, script):
    fleet.worker(2)
    for version in (1, 2):
        path = script(f"def f(x):\n    return {version}\n")
        fleet("preload", path, check=0)
        assert lines(fleet("map", "f", "0..5", check=0)) == [version] * 6


def test_workers_can_refuse_pushed_preloads(fleet, script):
    fleet.worker(1, TASKS, args=("--no-push",))
    done = fleet("preload", script("def f(x):\n    return x\n"), check=1)
    assert "--no-push" in done.stderr


def test_init_without_preloads_returns_when_its_slots_are_there(fleet):
    fleet("init", "-n", 3, "-t", 10, check=0)
    assert fleet.view()["slots"] == 3


def test_init_that_cannot_have_its_slots_says_so(fleet, script):
    slow = script("import time\ntime.sleep(30)\n")
    done = fleet("init", "-n", 1, "-l", slow, "-t", 1, check=3)
    assert "not all of the 1 slots were ready within 1.0 s" in done.stderr


def test_an_idle_fleet_uses_no_processor(fleet):
    worker = fleet.worker(4, TASKS)
    before = cpu_seconds(worker.pid) + cpu_seconds(fleet.broker.pid)
    time.sleep(2)
    assert cpu_seconds(worker.pid) + cpu_seconds(fleet.broker.pid) - before < 0.3
