"""A standard error that nobody reads costs lines of the log, never the fleet; and lines that
somebody does read are all there (reliability.R5, R6, check 8)."""
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest
from conftest import BIN, FULL, HERE, SLOW, executors, lines, until

TASKS = HERE / "tasks.py"
F_SETPIPE_SZ = 1031


@pytest.fixture
def full_pipe():
    """The writing end of a pipe that is full, and that nobody reads."""
    read, write = os.pipe()
    fcntl.fcntl(write, F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)
    try:
        while True:
            os.write(write, b"x")
    except BlockingIOError:
        pass
    os.set_blocking(write, True)
    yield write
    os.close(read)
    os.close(write)


def start(fleet, pipe, *command):
    """One of our programs, with that as its standard error."""
    process = subprocess.Popen([BIN / command[0], *map(str, command[1:])], stdin=subprocess.DEVNULL,
                               stdout=pipe, stderr=pipe, env={**os.environ, **fleet.env})
    return process


def end(process):
    for number in (signal.SIGCONT, signal.SIGTERM, signal.SIGTERM):
        process.send_signal(number)
    try:
        process.wait(10)
    finally:
        process.kill()
        process.wait()


def test_a_broker_whose_log_nobody_reads(make_fleet, full_pipe):
    """reliability.R5, operations.O10: after some 50 sessions every client got NoBroker."""
    fleet = make_fleet()
    fleet.broker.stop()
    fleet.processes.remove(fleet.broker)
    broker = start(fleet, full_pipe, "peach-broker", "-v", "--bind", fleet.endpoint)
    try:
        until(lambda: fleet("status").returncode == 0, 20)
        worker = fleet.worker(2, TASKS)
        for i in range(400 if FULL else 60):
            assert lines(fleet("map", "--quiet", "fnc", i, check=0)) == [i]
        assert fleet.count_ready() == 1 and worker.said().count("connected to") == 1
    finally:
        end(broker)
        fleet.broker = fleet.processes[0]


@pytest.mark.parametrize("options", [["-v"], []])
def test_a_worker_whose_log_nobody_reads(make_fleet, full_pipe, options):
    """reliability.R5: after some 60 deaths it sent no heartbeat, and was silent for too long; what
    tasks print goes there, too."""
    fleet = make_fleet("--session-timeout", 2)
    worker = start(fleet, full_pipe, "peach-worker", *options, "--slots", 2, "-l", TASKS)
    try:
        until(lambda: fleet.count_ready() == 1, 20)
        kills = 120 if FULL else 40
        done = fleet("map", "--quiet", "--retries", 0, "--chunk", 1, "exits", *[3] * kills,
                     timeout=120)
        assert done.stdout.count("PEACH_E_DIED") == kills
        for _ in range(3):
            done = fleet("map", "--quiet", "--source",
                         "lambda x: print('y' * 1000) or x", "1..300", check=0)
            assert lines(done) == list(range(1, 301))
        (seen,) = fleet.workers()
        assert seen["pid"] == worker.pid and seen["state"] == "ready"
    finally:
        end(worker)


def test_tasks_that_print_into_a_full_pipe(make_fleet, full_pipe, script):
    """From Python, from C, and from programs that they start."""
    fleet = make_fleet("--session-timeout", 2)
    says = script("import ctypes, os, subprocess, sys\n"
                  "def say(x):\n"
                  "    print('p' * 500); sys.stderr.write('e' * 500 + '\\n')\n"
                  "    os.write(1, b'w' * 500 + b'\\n'); ctypes.CDLL(None).puts(b'c' * 500)\n"
                  "    if x % 50 == 0:\n"
                  "        subprocess.run(['sh', '-c', 'echo a program; echo too >&2'], check=True)\n"
                  "    return x\n")
    worker = start(fleet, full_pipe, "peach-worker", "--slots", 2, "-l", says)
    try:
        until(lambda: fleet.count_ready() == 1, 20)
        count = 5000 if FULL else 800
        done = fleet("map", "--quiet", "say", f"1..{count}", check=0, timeout=90)
        assert lines(done) == list(range(1, count + 1))
        assert len(executors(worker)) == 2
    finally:
        end(worker)


LOGS = """
import collections, json, sys
import peach
maps, items, count = map(int, sys.argv[1:])
def talk(x, count=count):
    for i in range(count):
        print("line", i, "of", x)
    return x
short = 0
with peach.connect(timeout=10) as client:
    for _ in range(maps):
        told = collections.defaultdict(list)
        got = client.map(talk, range(items), logs=lambda item, *rest: told[item].append(rest[-1]))
        assert got == list(range(items))
        right = {x: [f"line {i} of {x}" for i in range(count)] for x in range(items)}
        short += told != right
print(short)
"""


def test_lines_that_are_read_are_all_there(fleet):
    """reliability.R6: 142 of 1,163 maps lost lines, 15,749 in all, although nothing else ran."""
    maps, lines_each = (1000, 20) if FULL else (30, 600)
    for _ in range(2):
        fleet.worker(2, TASKS)
    done = subprocess.run([sys.executable, "-c", LOGS, str(maps), "50", str(lines_each)],
                          capture_output=True, text=True, timeout=600 * SLOW,
                          env={**os.environ, **fleet.env, "PYTHONPATH": str(BIN.parent / "python")})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "0\n", f"{done.stdout.strip()} of {maps} maps lost lines"


def test_a_mebibyte_an_item_is_all_there(fleet):
    """README: up to 1 MiB an item, for who reads."""
    fleet.worker(2, TASKS)
    done = subprocess.run([sys.executable, "-c", LOGS, "1", "8", "60000"], capture_output=True,
                          text=True, timeout=120 * SLOW,
                          env={**os.environ, **fleet.env, "PYTHONPATH": str(BIN.parent / "python")})
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "0\n"


def test_who_does_not_read_is_told_what_was_lost(make_fleet, script):
    """reliability.R6: if no line followed, the loss was never told."""
    fleet = make_fleet("--memory", 16, "--session-timeout", 60)
    fleet.worker(8, script("def talk(n):\n    for i in range(n):\n        print('x' * 1000)\n"
                           "    return n\n"))
    client = subprocess.Popen([BIN / "peach", "map", "--quiet", "--logs", "--chunk", "1", "talk",
                               *["1000"] * 60], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              text=True, env={**os.environ, **fleet.env})
    until(lambda: fleet.view()["running_tasks"] > 0, 10)
    client.send_signal(signal.SIGSTOP)
    until(lambda: fleet.view()["running_tasks"] == 0, 60)  # it gets nothing new run
    client.send_signal(signal.SIGCONT)
    out, err = client.communicate(timeout=60 * SLOW)
    assert client.returncode == 0 and json.loads(f"[{out.replace(chr(10), ',')}0]")[:-1] == [1000] * 60
    got = err.count("x" * 1000)
    assert got < 60_000, "the broker is to keep some, not all"
    assert "output is lost from here" in err and "lines of output were lost" in err, got
