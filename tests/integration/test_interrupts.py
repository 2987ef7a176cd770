"""What ends a job early: a signal, the time, a reader that goes away."""
import os
import signal
import subprocess
import time

import pytest
from conftest import BIN, HERE, SLOW, executors, is_program, lines, until

TASKS = HERE / "tasks.py"
# Beyond any time that a test would wait: the results never stop.
ENDLESS = "0..900000000"


class Map:
    """peach map with its results going nowhere, or to a file."""

    def __init__(self, fleet, *args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=None):
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            # Whoever runs the tests may have said nohup.
            ["env", "--default-signal=HUP", str(BIN / "peach"), *map(str, args)],
            stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, text=True,
            env={**os.environ, **(fleet.env if fleet else {}), **(env or {})})

    def end(self, timeout=30):
        """(exit status, what it said, seconds since the last signal or its start)"""
        try:
            _, said = self.process.communicate(timeout=timeout * SLOW)
        finally:
            self.process.kill()
        return self.process.returncode, said, time.monotonic() - self.began

    def signal(self, number):
        self.began = time.monotonic()
        self.process.send_signal(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_one_signal_ends_a_map_whose_results_flow(fleet, number):
    """operations.O4, worker.A4: it went on until a second one, or SIGKILL"""
    fleet.worker(2, TASKS)
    job = Map(fleet, "map", "fnc", ENDLESS)
    until(lambda: fleet.view()["done_items"] > 1000, 20)
    job.signal(number)
    code, said, took = job.end()
    assert code == 130 and said == "peach: interrupted\n"
    assert took < 2 * SLOW
    until(lambda: fleet.view()["running_tasks"] == 0, 10)


def test_one_signal_ends_a_map_of_endless_input(fleet):
    """operations.O4"""
    fleet.worker(2, TASKS)
    with subprocess.Popen(["yes", "3"], stdout=subprocess.PIPE) as source:
        job = Map(fleet, "map", "fnc", "-", stdin=source.stdout)
        source.stdout.close()
        until(lambda: fleet.view()["done_items"] > 1000, 20)
        job.signal(signal.SIGTERM)
        assert job.end()[0] == 130
        source.kill()


@pytest.mark.parametrize("args", [("map", "fnc", ENDLESS), ("run", "-n", 2, "-l", TASKS, "fnc",
                                                            ENDLESS)])
def test_the_timeout_holds_while_results_flow(fleet, args):
    """operations.O4, worker.A4: -t 1 was not looked at"""
    if args[0] == "map":
        fleet.worker(2, TASKS)
    code, said, took = Map(fleet, *args, "-t", 3).end()
    assert code == 3 and "within 3 s" in said and took < 10 * SLOW


def test_cancelled_items_are_neither_results_nor_failures(fleet, tmp_path):
    """operations.N29: error lines at the end of a file that was being written"""
    fleet.worker(2, TASKS)
    with open(tmp_path / "out", "w+") as out:
        job = Map(fleet, "map", "--chunk", 1, "nap", *["0.02"] * 20, *["30"] * 20, stdout=out)
        until(lambda: fleet.view()["done_items"] >= 20, 20)
        time.sleep(0.3)
        job.signal(signal.SIGINT)
        code, said, _ = job.end()
        out.seek(0)
        assert out.read() == "0.02\n" * 20
    assert code == 130 and "failed" not in said


def test_an_item_that_does_not_stop_is_waited_for_with_a_word(fleet):
    """operations.N29, operations.N31: the second ^C was silent"""
    fleet.worker(1, TASKS, args=("--grace", "20"))
    job = Map(fleet, "map", "stubborn", 40)
    until(lambda: fleet.view()["running_tasks"] == 1, 10)
    job.signal(signal.SIGINT)
    time.sleep(1.5)
    job.signal(signal.SIGINT)
    code, said, took = job.end()
    assert code == 130 and took < 5 * SLOW
    assert "waiting for what runs to stop" in said and "leaving at once" in said


def left_of(marker):
    return subprocess.run(["grep", "-la", marker, "-r", "/proc", "--include=environ"],
                          capture_output=True, text=True).stdout


def test_a_run_whose_reader_goes_away_leaves_nothing():
    """operations.N14: its broker stayed for 3 to 4 s, and its port with it"""
    marker = f"peach-{time.monotonic_ns()}"
    done = subprocess.run(
        ["bash", "-c", f'"{BIN}/peach" run -n 2 -l "{TASKS}" late 0..9999 | head -1; '
                       'echo "${PIPESTATUS[@]}"'],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PEACH_MARK": marker})
    assert left_of(marker) == ""
    assert done.stdout.split() == ["0", "130", "0"] and done.stderr == ""


def test_a_run_whose_terminal_closes_leaves_nothing():
    """operations.N14, of SIGHUP"""
    marker = f"peach-{time.monotonic_ns()}"
    job = Map(None, "run", "-n", 2, "-l", TASKS, "late", "0..9999", env={"PEACH_MARK": marker},
              stdout=subprocess.PIPE)
    assert job.process.stdout.readline() == "0\n"
    job.signal(signal.SIGHUP)
    assert job.end()[0] == 130
    assert left_of(marker) == ""


@pytest.mark.held
def test_nohup_is_respected(fleet):
    """Of the same kind: what a user said is to go on does"""
    fleet.worker(1, TASKS)
    job = Map(fleet, "map", "--chunk", 1, "late", *["1"] * 20)
    assert job.process.poll() is None
    process = subprocess.Popen(["sh", "-c", 'trap "" HUP; exec "$@"', "sh", str(BIN / "peach"), "map",
                                "--chunk", "1", "late", *["1"] * 20],
                               stdout=subprocess.PIPE, text=True, env={**os.environ, **fleet.env})
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGHUP)
    assert process.communicate(timeout=30 * SLOW)[0].count("1") == 19 and process.returncode == 0
    assert job.end()[0] == 0


def test_failures_can_stop_a_map(fleet):
    """operations, what users of GNU parallel would miss"""
    fleet.worker(2, TASKS)
    # The one that fails takes so long that those in front of it are done: it stops what runs.
    source = ("lambda x, sleep=__import__('time').sleep: sleep(x == 3) or 1/(x - 3) if x < 9 "
              "else sleep(9)")
    done = fleet("map", "--source", source,
                 "--chunk", 1, "0..99", "--halt", "now", check=1)
    assert [r for r in lines(done) if isinstance(r, dict)] == [lines(done)[3]]
    assert "halted after" in done.stderr and "item 3: ZeroDivisionError" in done.stderr
    done = fleet("map", "raises", "--chunk", 1, *["3"] * 8, *["0"] * 5000, "--halt", "now,fail=5",
                 check=1)
    assert sum("error" in r for r in lines(done) if isinstance(r, dict)) >= 5


def test_a_map_that_stops_soon_lets_finish_what_was_given_out(fleet):
    fleet.worker(1, TASKS)
    done = fleet("map", "--source", "lambda x: 1/x if x == 0 else __import__('time').sleep(.02)",
                 "0..9999", "--halt", "soon,fail=1", check=1)
    assert 1 < len(lines(done)) < 9999
    assert sum(isinstance(r, dict) for r in lines(done)) == 1  # nothing was cancelled
    assert "halted after" in done.stderr


@pytest.mark.held
@pytest.mark.parametrize("value", ["", "never", "now,", "now,fail=0", "now,fail=-1", "soon,x=1"])
def test_what_halt_does_not_know_is_told(value):
    from conftest import peach
    assert "--halt" in peach("map", "fnc", "1", "--halt", value, check=2).stderr


def test_an_interrupt_while_python_starts(fleet):
    """An executor that starts its interpreter for the job lost half of it, or died."""
    for _ in range(5):
        worker = fleet.worker(1)
        job = fleet.start("peach", "map", "--quiet", "--retries", 0, "--source", "lambda x: x", 7)
        end = time.monotonic() + 20 * SLOW
        while job.process.poll() is None and time.monotonic() < end:
            for pid in executors(worker):
                if is_program(pid, "peach-executor"):
                    os.kill(pid, signal.SIGINT)
            time.sleep(0.0005)
        assert job.wait(1) == 0 and job.said() == "7\n", job.said()
        worker.stop()
