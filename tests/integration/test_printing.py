"""What tasks print, and what programs log: whole, in order, and nobody waits for a reader."""
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from conftest import BIN, HERE, SLOW, Process, executors, lines, until

TASKS = HERE / "tasks.py"
SAYS = """
import os, sys, subprocess
def say(text):
    print(text, flush=True)
    return 1
def raw(values):
    os.write(1, bytes(values))
    return 1
def long(n):
    print("é" * n)
    print("€" * n, file=sys.stderr)
    return n
def child(x):
    subprocess.run(["sh", "-c", f"echo child {x}; echo other >&2"])
    return x
def many(n):
    for i in range(n):
        print("line", i)
    return n
"""


@pytest.fixture
def says(fleet, script):
    fleet.worker(1, TASKS, script(SAYS, "says.py"))
    return fleet


def texts(fleet, function, *items):
    """What the items printed, as Python's logs= tells it."""
    code = ("import json, sys, peach\n"
            "told = []\n"
            "with peach.connect(timeout=10) as c:\n"
            "    c.map(sys.argv[1], json.loads(sys.argv[2]), logs=lambda *line: told.append(line))\n"
            "print(json.dumps([[line[0], line[4]] for line in told]))\n")
    done = subprocess.run([sys.executable, "-c", code, function, json.dumps(items)],
                          capture_output=True, text=True, timeout=60 * SLOW,
                          env={**os.environ, **fleet.env, "PYTHONPATH": str(BIN.parent / "python")})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("length", [100, 2047, 2048, 4095, 5000, 21000])
def test_long_lines_stay_what_they_are(says, length):
    """worker.C6: cut in pieces inside characters, and then all that is not ASCII was "?"."""
    told = texts(says, "long", length)
    assert [text for _, text in told] == ["é" * length, "€" * length][:len(told)], \
        [len(text) for _, text in told]


def test_very_long_lines_are_cut_between_characters(says):
    told = texts(says, "long", 100_000)
    assert all(set(text) <= {"é"} or set(text) <= {"€"} for _, text in told)
    assert "".join(text for _, text in told) == "é" * 100_000 + "€" * 100_000


@pytest.mark.parametrize("values, expected", [
    (b"a\x01b\nc\n", ["a\x01b", "c"]), (b"\x01\n\x01x\n", ["\x01", "\x01x"]),
    (b"\x02not a notice\n", ["\x02not a notice"]),
    (b"\x01" + b"0" * 16 + b" !not a notice\n", ["\x01" + "0" * 16 + " !not a notice"]), (b"\xff\xfeok \xc3\xa9\n", ["??ok é"]),
    (b"\x00\nafter\n", None), (b"\x01" + b"0" * 16 + b" 0 0\nend\n", None)], ids=repr)
def test_any_bytes_may_be_printed(says, values, expected):
    """worker.C6: a byte 0x01 in the output ended that item's log."""
    told = [text for _, text in texts(says, "raw", list(values), list(b"the next\n"))]
    assert told[-1] == "the next"
    if expected:
        assert told[:-1] == expected
    else:
        assert len(told) >= 2


@pytest.mark.held
def test_lines_have_the_item_that_printed_them(says):
    told = texts(says, "say", *[f"item {i}" for i in range(50)])
    assert told == [[i, f"item {i}"] for i in range(50)]
    told = texts(says, "child", *range(10))
    assert sorted(map(tuple, told)) == sorted(
        [(i, f"child {i}") for i in range(10)] + [(i, "other") for i in range(10)])


def test_a_task_may_print_although_nobody_reads(says, script):
    """operations.O10: BrokenPipeError in each task, in a fleet where others succeed."""
    for how in ("gone", "stopped", "closed"):
        read, write = os.pipe()
        closes = (sys.executable, "-c", "import os, sys; os.close(2); os.close(1); "
                  "os.execv(sys.argv[1], sys.argv[1:])") if how == "closed" else ()
        before = {w["pid"] for w in says.workers()}
        worker = subprocess.Popen([*closes, str(BIN / "peach-worker"), "-v", "--slots", "1", "-l",
                                   str(script(SAYS, "says.py"))], stdin=subprocess.DEVNULL,
                                  stdout=write, stderr=write, env={**os.environ, **says.env})
        os.close(write)
        if how == "gone":
            os.close(read)
        try:
            until(lambda: any(w["pid"] not in before and w["state"] == "ready"
                              for w in says.workers()), 20)
            pid = worker.pid
            assert lines(says("map", "--quiet", "--chunk", 1, "many", *["3000"] * 40,
                              check=0)) == [3000] * 40
            served = next(w for w in says.workers() if w["pid"] == pid)
            assert served["done"] > 0 and served["failed"] == 0, served
        finally:
            worker.send_signal(signal.SIGTERM)
            worker.send_signal(signal.SIGTERM)
            worker.wait(20)
            if how != "gone":
                os.close(read)
        until(lambda: len(says.workers()) == 1, 10)


# ---- logs ----

LINE = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (\S+) (peach-\w+)\[(\d+)\] "
                  r"(detail|info|warning|error): .+$")


def test_lines_of_logs_say_when_where_and_how_grave(make_fleet):
    """operations.N31"""
    fleet = make_fleet("--verbose")
    worker = fleet.worker(1, TASKS, args=("--verbose",))
    os.kill(executors(worker)[0], signal.SIGKILL)
    until(lambda: "signal 9" in worker.said(), 10)
    fleet("map", "--quiet", "fnc", 1, check=0)
    for program, name in ((fleet.broker, "peach-broker"), (worker, "peach-worker")):
        for line in program.said().splitlines():
            match = LINE.match(line)
            assert match, line
            assert match[1] == os.uname().nodename and match[2] == name
            assert int(match[3]) == program.pid


def test_a_worker_says_what_it_waits_for(fleet):
    """operations.N31: nothing at all without -v, also not that it lost its broker."""
    worker = Process(BIN / "peach-worker", "-l", TASKS, env={"PEACH_BROKER": "127.0.0.1:1"})
    try:
        until(lambda: "127.0.0.1:1" in worker.said(), 10)
    finally:
        worker.stop()
    worker = fleet.worker(1, TASKS)
    assert "connected" in worker.said()
    fleet.broker.stop()
    until(lambda: worker.said().count(fleet.endpoint) >= 2, 20)
    assert len(worker.said().splitlines()) <= 4, worker.said()
    fleet.processes.remove(fleet.broker)
    fleet.start_broker()
    until(lambda: worker.said().count("connected to") == 2, 20)
