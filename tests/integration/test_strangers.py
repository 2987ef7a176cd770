"""Thousands of connections that want nothing good: the fleet works on, and everything is
as before when they are gone."""
import os
import resource
import socket
import sys
import time

import pytest
from conftest import FULL, HERE, SLOW, lines, memory, until

sys.path.insert(0, str(HERE.parent / "fuzz"))
TASKS = HERE / "tasks.py"
COUNT = 5000 if FULL else 500

GREETING = (b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))


def command(name, body):
    data = bytes([len(name)]) + name + body
    return bytes([4, len(data)]) + data


READY = command(b"READY", b"\x0bSocket-Type\x00\x00\x00\x06DEALER")


def frame(data):
    if len(data) < 256:
        return bytes([0, len(data)]) + data
    return b"\x02" + len(data).to_bytes(8, "big") + data


def hello(number):
    from seeds import VERSION, envelope
    return envelope(1, [(1, VERSION), (2, 1), (3, b"stranger" + number.to_bytes(8, "big")), (4, "h"),
                        (10, 1)])


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def connect(fleet, count, *words):
    """So many connections; each says its words one after the other, as peers do."""
    host, port = fleet.endpoint.removeprefix("tcp://").split(":")
    made = []
    for i in range(count):
        s = socket.create_connection((host, int(port)), timeout=10)
        made.append(s)
    for word in words:
        for i, s in enumerate(made):
            s.sendall(word(i) if callable(word) else word)
        if word is GREETING:
            for s in made:
                while s.recv(64):
                    if len(s.recv(64, socket.MSG_PEEK)) > 0:
                        break
    return made


def check(fleet):
    assert lines(fleet("map", "--quiet", "fnc", "0..99", check=0)) == list(range(100))


@pytest.mark.alone
def test_thousands_of_strangers(make_fleet):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    fleet = make_fleet("--session-timeout", "6")
    fleet.worker(2, TASKS)
    check(fleet)
    pid = fleet.broker.pid
    before = descriptors(pid), memory(pid)
    garbage = os.urandom(200)
    made = connect(fleet, COUNT, GREETING, READY, lambda i: frame(hello(i)))
    until(lambda: len(fleet.view()["clients"]) > COUNT * 0.9, 20)
    check(fleet)
    made += connect(fleet, COUNT // 2, garbage)
    made += connect(fleet, COUNT // 2, GREETING, READY, lambda i: frame(garbage))
    check(fleet)
    for s in connect(fleet, COUNT // 5):
        s.close()  # connects and vanishes
    check(fleet)
    during = descriptors(pid), memory(pid)
    for s in made:
        s.close()
    until(lambda: descriptors(pid) <= before[0] + 5, 30)
    until(lambda: len(fleet.view()["clients"]) <= 1, 30)
    check(fleet)
    # The first round fills the allocator's pools; a second one adds nothing.
    time.sleep(4)
    again = memory(pid)
    for s in connect(fleet, COUNT, GREETING, READY, lambda i: frame(hello(COUNT + i))):
        s.close()
    until(lambda: descriptors(pid) <= before[0] + 5, 30)
    until(lambda: len(fleet.view()["clients"]) <= 1, 30)
    check(fleet)
    time.sleep(4)
    after = descriptors(pid), memory(pid)
    print(f"descriptors and MiB of the broker: {before} before, {during} with {COUNT} clients that "
          f"say Hello and as many that say nonsense, {after} after, {again:.1f} MiB after the first "
          "round")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert after[0] <= before[0] + 5
    if SLOW == 1:
        assert after[1] < before[1] + 8 + COUNT / 500
