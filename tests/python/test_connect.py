"""How a fleet is asked for: its slots, its addresses, how long one waits for it."""
import asyncio
import os
import socket
import subprocess
import threading
import time

import pytest
from test_modules import run

import peach


@pytest.mark.parametrize("slots", ["", "0", "None", '"auto"'])
def test_slots_may_be_one_a_core(slots):
    """operations.N30: of the cores that the process may use, as peach worker --slots auto counts."""
    assert run(f"""
import os, peach
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
with peach.init({slots}) as client:
    print(client.slots)
""") == "1"


def test_a_client_grows_its_fleet_to_one_a_core(make_client):
    """operations.N30"""
    client = make_client(1)
    assert client.init("auto") == len(os.sched_getaffinity(0)) - 1
    assert client.init(None) == 0 and client.init(0) == 0


@pytest.mark.parametrize("slots", ["4", "all", -1, 1025, 1.0])
def test_slots_that_are_none_are_named(client, slots):
    """operations.N30"""
    with pytest.raises(ValueError, match=f"slots {slots!r}.*auto"):
        client.init(slots)
    with pytest.raises(ValueError, match=f"slots {slots!r}.*auto"):
        peach.init(slots)


# ---- connections ----


def start(program, *options):
    return subprocess.Popen([os.path.join(os.environ["PEACH_BIN"], program), *options])


class Broker:
    """A broker of the build that can be killed and started again."""

    def __init__(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.endpoint = f"tcp://127.0.0.1:{s.getsockname()[1]}"
        self.start()

    def start(self):
        self.process = start("peach-broker", "--bind", self.endpoint)

    def kill(self):
        self.process.kill()
        self.process.wait(20)


@pytest.fixture
def broker():
    made = Broker()
    yield made
    made.kill()


@pytest.mark.parametrize("make", [
    lambda e: peach.connect(e, 10, patience=0.5),
    lambda e: peach.Client(e, 10, patience=0.5),
    lambda e: asyncio.run(connect_later(e))], ids=["connect", "Client", "aio"])
def test_a_client_waits_for_a_lost_broker_as_long_as_it_was_told(broker, make):
    """reliability.R7: 30 seconds, and nothing changed that."""
    with make(broker.endpoint) as client:
        future = client.submit("nobody_has_it", 1)
        broker.kill()
        begun = time.monotonic()
        with pytest.raises(peach.NoBroker):
            client.call("nobody_has_it", 1)
        with pytest.raises(peach.NoBroker):
            future.result(10)
        assert time.monotonic() - begun < 15


async def connect_later(endpoint):
    return (await peach.aio.connect(endpoint, 10, patience=0.5))._client


def test_init_has_the_patience_of_its_client(broker, monkeypatch):
    """reliability.R7"""
    monkeypatch.setenv("PEACH_BROKER", broker.endpoint)
    monkeypatch.setattr(peach._fleet, "_default", None)
    worker = start("peach-worker", "--connect", broker.endpoint, "--slots", "1")
    try:
        with peach.init(1, patience=0.5) as client:
            assert client.call(abs, -1) == 1
            broker.kill()
            begun = time.monotonic()
            with pytest.raises(peach.NoBroker):
                client.call(abs, -1)
            assert time.monotonic() - begun < 15
    finally:
        worker.kill()
        worker.wait(20)


def test_patience_begins_when_a_broker_has_answered(broker):
    """reliability.R7: it ended the wait for a first answer, whatever the timeout."""
    broker.kill()
    timer = threading.Timer(2, broker.start)
    timer.start()
    try:
        peach.connect(broker.endpoint, 20, patience=0.5).close()
    finally:
        timer.join()


def test_without_end_it_waits_until_the_broker_is_back(broker):
    """reliability.R7"""
    for patience in (0.5, None):
        with peach.connect(broker.endpoint, 10, patience=patience) as client:
            broker.kill()
            timer = threading.Timer(2, broker.start)
            timer.start()
            try:
                if patience:
                    with pytest.raises(peach.NoBroker):
                        client.put(1)
                else:
                    client.put(1)
            finally:
                timer.join()  # the broker of it ends with the test


@pytest.mark.parametrize("patience", [0, -1, float("nan"), "long"])
def test_a_patience_that_is_none_is_named(patience):
    """reliability.R7"""
    with pytest.raises((ValueError, TypeError), match="patience .* more than 0|real number"):
        peach.connect("tcp://127.0.0.1:1", 0.1, patience=patience)


def test_an_address_that_is_not_loopback_needs_a_word(monkeypatch):
    """operations.N12: a client went anywhere, with code and data in clear."""
    monkeypatch.delenv("PEACH_INSECURE", raising=False)
    for connect in (peach.connect, peach.Client):
        with pytest.raises(peach.PeachError, match="insecure=True"):
            connect("tcp://192.0.2.1:5001", 0.2)
        with pytest.raises(peach.NoBroker):
            connect("tcp://192.0.2.1:5001", 0.2, insecure=True)
