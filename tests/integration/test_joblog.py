"""--joblog: what ended is written down, and a job goes on from there whatever ended the command."""
import os
import signal
import subprocess
import time

import pytest
from conftest import BIN, HERE, SLOW, lines, peach, until

TASKS = HERE / "tasks.py"


def rows(path):
    """The lines of a joblog as dicts."""
    head, *rest = path.read_text().splitlines()
    return [dict(zip(head.split("\t"), line.split("\t"))) for line in rest]


def raises(path, *args, check=0):
    return peach("run", "-n", 2, "-l", TASKS, "raises", *args, "--joblog", path, check=check)


def test_each_item_that_ended_has_a_line(tmp_path):
    path = tmp_path / "log"
    begin = time.time()
    raises(path, "1..4", '"a\\tb"', check=1)
    log = rows(path)
    assert sorted(row["Item"] for row in log) == list("01234")
    by_item = {row["Item"]: row for row in log}
    assert by_item["2"]["Status"] == "PEACH_E_RAISED" and by_item["2"]["Value"] == "3"
    assert by_item["2"]["Host"] == os.uname().nodename and int(by_item["2"]["Pid"]) > 0
    assert by_item["0"]["Status"] == "ok" and by_item["4"]["Value"] == '"a\\tb"'
    assert all(row["Function"] == "raises" for row in log)
    assert all(begin - 1 <= float(row["Ended"]) <= time.time() + 1 for row in log)


def test_what_is_done_is_left_out_and_what_failed_is_if_asked(tmp_path):
    path = tmp_path / "log"
    raises(path, "0..5", check=1)
    assert lines(raises(path, "0..7", "--resume")) == [6, 7]
    done = raises(path, "0..8", "--resume-failed", check=1)
    assert "item 3" in done.stderr and [r for r in lines(done) if r == 8] == [8]
    assert len(lines(done)) == 2
    # Without either it begins anew.
    assert lines(raises(path, 0, 1)) == [0, 1]
    assert len(rows(path)) == 2


def test_other_items_or_another_function_are_noticed(tmp_path):
    path = tmp_path / "log"
    raises(path, 5, 6, 7)
    before = path.read_text()
    done = raises(path, 5, 8, 7, "--resume", check=2)
    assert "item 1 was another one" in done.stderr
    done = peach("run", "-n", 1, "-l", TASKS, "fnc", 5, "--joblog", path, "--resume", check=2)
    assert "is of raises, not of fnc" in done.stderr
    assert path.read_text().startswith(before)


@pytest.mark.parametrize("cut", [1, 5, 12])
def test_a_torn_last_line_is_dropped(tmp_path, cut):
    path = tmp_path / "log"
    raises(path, 5, 6, 7, "--chunk", 3)
    text = path.read_bytes()
    path.write_bytes(text[:-cut])
    done = raises(path, 5, 6, 7, "--resume")
    assert len(lines(done)) == 1
    assert sorted(row["Item"] for row in rows(path)) == list("012")


def test_what_is_no_joblog_is_not_touched(tmp_path):
    path = tmp_path / "letter"
    path.write_text("Dear Sir,\nyours\n")
    done = raises(path, 1, "--resume", check=2)
    assert "does not begin as a joblog does" in done.stderr
    assert path.read_text() == "Dear Sir,\nyours\n"
    path.write_text("Item\tEnded\tHost\tPid\tStatus\tFunction\tValue\nx\n")
    assert "none of a joblog" in raises(path, 1, "--resume", check=2).stderr
    assert "No such file" in raises(tmp_path / "no" / "folder", 1, check=2).stderr
    assert "cannot be written: No space left" in raises("/dev/full", 1, check=1).stderr


def test_two_commands_do_not_write_to_one_joblog(fleet, tmp_path):
    path = tmp_path / "log"
    fleet.worker(1, TASKS)
    first = fleet.start("peach", "map", "nap", 20, "--joblog", path)
    until(lambda: path.exists() and fleet.view()["running_tasks"] == 1, 10)
    done = fleet("map", "nap", 0, "--joblog", path, "--resume", check=2)
    assert "another command writes to it" in done.stderr
    first.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("order", [(), ("--unordered",)])
def test_whatever_kills_the_command_nothing_is_lost(fleet, tmp_path, number, order):
    """What the joblog calls done was printed, and the rest is done by the next one."""
    path, out = tmp_path / "log", tmp_path / "out"
    fleet.worker(2, TASKS)
    items = range(1, 201)
    source = "lambda x: __import__('time').sleep(0.01) or x"
    args = [str(BIN / "peach"), "map", "--source", source, "1..200", "--joblog", str(path), *order]
    for attempt in range(6):
        with open(out, "a") as file:
            process = subprocess.Popen([*args, "--resume"], stdout=file, stderr=subprocess.DEVNULL,
                                       env={**os.environ, **fleet.env})
            size = path.stat().st_size if path.exists() else 0
            if attempt < 5:
                until(lambda: process.poll() is not None or
                      path.exists() and path.stat().st_size > size + 200, 20)
                process.send_signal(number)
            process.wait(60 * SLOW)
        printed = {int(x) for x in out.read_text().split() if x.isdigit()}
        logged = {int(row["Value"]) for row in rows(path) if "Value" in row} if path.exists() else set()
        assert logged <= printed
    assert process.returncode == 0
    assert logged == set(items) and len(rows(path)) == 200  # each was logged once


def test_items_of_standard_input_are_resumed_too(tmp_path):
    path = tmp_path / "log"
    args = ("run", "-n", 2, "--source", "lambda x: x.upper()", "--lines", "--joblog", path)
    assert lines(peach(*args, stdin="a\nb\n", check=0)) == ["A", "B"]
    assert lines(peach(*args, "--resume", stdin="a\nb\nc\n", check=0)) == ["C"]


def test_what_never_ran_is_not_in_the_log(tmp_path):
    path = tmp_path / "log"
    peach("run", "-n", 1, "-l", TASKS, "fcn", "0..9", "--joblog", path, check=1)
    assert rows(path) == []


def test_another_source_is_another_function(tmp_path):
    path = tmp_path / "log"
    peach("run", "-n", 1, "--joblog", path, "--source", "lambda x: x", 0, 1, check=0)
    done = peach("run", "-n", 1, "--joblog", path, "--resume", "--source", "lambda x: x * 100", 0, 1,
                 2, check=2)
    assert "is of the source" in done.stderr and done.stdout == ""
    done = peach("run", "-n", 1, "--joblog", path, "--resume", "--source", "lambda x: x", 0, 1, 2,
                 check=0)
    assert lines(done) == [2]


@pytest.mark.parametrize("options", [["--errors", "in"], ["--joblog", "in"]])
@pytest.mark.parametrize("source", ["@in", "-"])
def test_what_is_read_is_not_written_over(tmp_path, options, source):
    (tmp_path / "in").write_text("1\n2\n")
    with open(tmp_path / "in") as stdin:
        done = subprocess.run([BIN / "peach", "run", "-n", "1", "-l", TASKS, *options, "fnc", source],
                              stdin=stdin, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and f"it cannot be the file of {options[0]}" in done.stderr
    assert (tmp_path / "in").read_text() == "1\n2\n"


@pytest.mark.parametrize("there", [False, True])
def test_errors_and_joblog_are_two_files(tmp_path, there):
    if there:
        (tmp_path / "one").write_text("")
        (tmp_path / "two").symlink_to("one")
    done = peach("run", "-n", 1, "-l", TASKS, "--errors", tmp_path / "one", "--joblog",
                 tmp_path / ("two" if there else "one"), "fnc", 1, check=2)
    assert "a file each" in done.stderr


def test_errors_of_a_job_that_goes_on_are_kept(tmp_path):
    log, errors = tmp_path / "log", tmp_path / "errors"
    raises(log, "0..4", "--errors", errors, check=1)
    before = errors.read_text()
    assert "no threes" in before
    raises(log, "0..6", "--errors", errors, "--resume")
    assert errors.read_text() == before
    raises(log, "4..6", "--errors", errors)
    assert errors.read_text() == ""
