"""Bad input: one clear line, the right exit status, and a broker that goes on."""
import os
import socket
import time

import pytest
from conftest import HERE, free_port, lines, peach, until

TASKS = HERE / "tasks.py"


def one_line(done, *words):
    text = done.stderr.strip()
    assert "\n" not in text, text
    for word in words:
        assert word in text, text


def test_no_broker_there():
    begin = time.monotonic()
    done = peach("map", "-c", f"tcp://127.0.0.1:{free_port()}", "fnc", 1, check=3)
    one_line(done, "no broker answered", "peach broker")
    assert time.monotonic() - begin < 5


def test_a_port_where_something_else_listens():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        endpoint = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        one_line(peach("status", "-c", endpoint, "-t", "1", check=3), "no broker answered")


@pytest.mark.held
@pytest.mark.parametrize("endpoint", ["tcp://h:99999", "x:y", "udp://x:1", "[::1", "tcp://:5001"])
def test_an_endpoint_that_is_none(endpoint):
    one_line(peach("map", "-c", endpoint, "fnc", 1, check=2), endpoint, "tcp://HOST:PORT")


def test_a_port_in_use(fleet):
    done = peach("broker", "--bind", fleet.endpoint, check=4)
    one_line(done, "cannot bind", "in use", "--bind")
    port = fleet.endpoint.rsplit(":", 1)[1]
    done = peach("run", "-p", port, "-n", 1, "-l", TASKS, "fnc", 1, check=4)
    one_line(done, "cannot bind")


@pytest.mark.parametrize("program", ["broker", "worker"])
def test_open_addresses_are_refused_unless_said_aloud(program):
    option = "--bind" if program == "broker" else "--connect"
    done = peach(program, option, "tcp://0.0.0.0:5001", check=4)
    one_line(done, "not a loopback address", "--insecure")


@pytest.mark.parametrize("command", [("run", "-n", "1", "-l"), ("preload",), ("init", "-l"),
                                     ("worker", "-l")])
def test_a_preload_that_is_not_there(fleet, command):
    more = ["fnc", "1"] if command[0] == "run" else []
    done = fleet(*command, "missing.py", *more, check=2)
    one_line(done, "missing.py", "No such file")


def test_a_preload_of_no_known_kind(fleet):
    one_line(fleet("preload", "README", check=2), "README", "module:NAME")


def test_a_preload_with_a_syntax_error(script):
    path = script("def f(:\n")
    done = peach("run", "-n", 2, "-l", path, "f", 1, check=1)
    first = done.stderr.splitlines()[0]
    assert "preload script.py failed: SyntaxError: invalid syntax (script.py, line 1)" in first


def test_a_module_that_is_not_there():
    done = peach("run", "-n", 1, "-l", "no_such_module:f", "f", 1, check=1)
    assert "ModuleNotFoundError" in done.stderr
    done = peach("run", "-n", 1, "-l", "math:no_such_name", "f", 1, check=1)
    assert "AttributeError" in done.stderr


def test_a_plugin_that_is_none(tmp_path):
    path = tmp_path / "broken.so"
    path.write_bytes(b"not an object")
    done = peach("run", "-n", 1, "-l", path, "f", 1, check=1)
    assert "broken.so" in done.stderr


def test_an_unknown_command_and_no_command():
    one_line(peach("frobnicate", check=2), "frobnicate", "peach --help")
    assert "Usage" in peach(check=2).stderr


@pytest.mark.parametrize("command", ["run", "broker", "worker", "map", "call", "init", "preload",
                                     "status", "workers", "functions", "drain"])
def test_every_command_has_help(command):
    done = peach(command, "--help", check=0)
    assert "Usage" in done.stdout and len(done.stdout) > 200
    assert f"  {command} " in peach("--help", check=0).stdout
    assert peach(command, "--no-such-option", check=2).stderr


@pytest.mark.parametrize("item", ["{bad", "abc", "[1,", "1..", "", "'a'", '{"a":1,"a":2}'])
def test_an_item_that_is_not_json(item):
    done = peach("map", "fnc", "1", item, check=2)
    one_line(done, "is not JSON")
    if item == "abc":
        one_line(done, "'\"abc\"'")  # what to write instead


def test_a_broken_line_on_standard_input(fleet):
    fleet.worker(1, TASKS)
    done = fleet("map", "fnc", "-", stdin="1\n2\n{bad\n4\n", check=2)
    assert "line 3" in done.stderr
    assert lines(done) == [1, 2]  # what came before still ends


@pytest.mark.parametrize("args", [
    ("run", "-n", "0", "f", "1"), ("run", "-n", "x", "f", "1"), ("run", "-p", "70000", "f", "1"),
    ("map",), ("map", "--priority", "9", "f", "1"), ("map", "--retries", "-1", "f", "1"),
    ("map", "-t", "x", "f", "1"), ("worker", "-s", "0"), ("worker", "--label", "nolabel"),
    ("drain",), ("status", "extra"), ("broker", "extra"), ("preload",),
    ("broker", "--session-timeout", "0"),
])
def test_wrong_usage(args):
    assert peach(*args, check=2).stderr


def test_an_item_over_the_limit(make_fleet):
    fleet = make_fleet("--max-payload", "1")
    fleet.worker(1, TASKS)
    big = '"' + "x" * (2 << 20) + '"'
    done = fleet("map", "length", "-", stdin=f'"a"\n{big}\n"b"\n', check=1)
    results = lines(done)
    assert results[0] == 1 and results[2] == 1
    assert "--max-payload" in results[1]["error"]["message"]


def test_a_timeout(fleet):
    fleet.worker(1, TASKS)
    done = fleet("map", "-t", "0.5", "nap", 20, check=3)
    one_line(done, "within")


def test_strangers_are_counted_and_the_broker_goes_on(fleet):
    zmq = pytest.importorskip("zmq")
    fleet.worker(1, TASKS)
    host, port = "127.0.0.1", int(fleet.endpoint.rsplit(":", 1)[1])
    for noise in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", os.urandom(2000), b"\x00" * 70):
        with socket.create_connection((host, port)) as stranger:
            try:
                stranger.sendall(noise)
                stranger.settimeout(1)
                while stranger.recv(100):
                    pass
            except OSError:
                pass
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(fleet.endpoint)
    for frames in ([b"garbage"], [b""], [b"", b"x", b"y"], [os.urandom(300)], [b"\x0a\x01"],
                   [b"\x1a\x00"], [b"\x5a\x00"] + [b"z"] * 5000):
        dealer.send_multipart(frames)
    until(lambda: fleet.view()["bad_messages"] >= 5, 10)
    assert fleet.view()["bad_connections"] >= 1
    assert lines(fleet("map", "fnc", "0..9", check=0)) == list(range(10))
    context.destroy(0)


def test_another_version_of_the_protocol_is_told_so(fleet):
    zmq = pytest.importorskip("zmq")
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 0
    dealer.connect(fleet.endpoint)
    dealer.send(b"\x0a\x02\x08\x63")  # Envelope { hello { version: 99 } }
    assert dealer.poll(5000)
    answer = dealer.recv()
    assert b"version 4" in answer and b"version 99" in answer
    context.destroy(0)


def test_a_stranger_can_write_a_client_from_the_protocols_worked_example(fleet):
    """The bytes of PROTOCOL.md, sent as they stand."""
    import re

    from conftest import ROOT
    zmq = pytest.importorskip("zmq")
    text = (ROOT / "proto" / "PROTOCOL.md").read_text().split("A worked example")[1]
    blocks = [bytes.fromhex("".join(block.split()))
              for block in re.findall(r"\n\n((?:    [0-9a-f ]+\n)+)", text)]
    hello, welcome, value, submit, results, acknowledgement, goodbye = blocks
    fleet.worker(4, TASKS)
    context = zmq.Context()
    dealer = context.socket(zmq.DEALER)
    dealer.linger = 1000
    dealer.connect(fleet.endpoint)
    dealer.send(hello)

    def receive():
        while True:
            assert dealer.poll(5000)
            message = dealer.recv()
            if message not in (b"\x6a\x00",) and message[0] != 0x32:  # Heartbeat, Credit
                return message

    answer = receive()
    # The token is its own, and behind the rest is its place; all else is as printed.
    assert answer[2:6] == welcome[2:6] and answer[22:].startswith(welcome[22:])
    assert answer[6 + len(welcome) - 6:][:1] in (b"", b"\x5a")
    dealer.send(submit)
    answer = receive()
    # All but the lengths and the time, which vary.
    assert answer[0] == results[0] and results[4:-4] in answer and value in answer
    assert answer.endswith(results[-2:])  # the serial
    dealer.send(acknowledgement)
    dealer.send(goodbye)
    until(lambda: len(fleet.view()["clients"]) == 1, 5)
    context.destroy(0)
