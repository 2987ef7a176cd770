"""Where programs connect to: names, short forms, lists, and what is exposed."""
import os
import socket
import subprocess
import sys
import time

import pytest
from conftest import BIN, HERE, SLOW, Process, free_port, lines, peach, until

TASKS = HERE / "tasks.py"


def port_of(fleet):
    return fleet.endpoint.rsplit(":", 1)[1]


@pytest.mark.parametrize("form", ["{port}", "localhost:{port}", "127.0.0.1:{port}",
                                  "tcp://localhost:{port}", "[::ffff:127.0.0.1]:{port}"])
def test_short_forms(fleet, form):
    """operations, what redis-cli's users miss: -c localhost, -c a:5001."""
    endpoint = form.format(port=port_of(fleet))
    more = ["--insecure"] if "ffff" in form else []
    fleet.env["PEACH_BROKER"] = endpoint
    fleet.start("peach-worker", "-l", TASKS, *more)
    until(lambda: '"ready"' in peach("workers", "--json", *more, env=fleet.env).stdout, 10)
    assert lines(peach("map", "--quiet", *more, "-c", endpoint, "fnc", 1, check=0)) == [1]


def test_a_broker_binds_names():
    """operations.O15: localhost passed the loopback check and was "No such device"."""
    port = free_port()
    broker = Process(BIN / "peach-broker", "--bind", f"localhost:{port}")
    try:
        until(lambda: "listening" in broker.said() or broker.process.poll() is not None, 10)
        assert broker.process.poll() is None, broker.said()
        peach("status", "-c", f"localhost:{port}", check=0)
    finally:
        broker.stop()


@pytest.mark.parametrize("bind", ["nonexistent.invalid:5001", "tcp://nonexistent.invalid:5001"])
def test_a_name_to_bind_that_does_not_resolve(bind):
    done = peach("broker", "--insecure", "--bind", bind)
    assert done.returncode == 2 and "nonexistent.invalid" in done.stderr, done
    assert "not known" in done.stderr or "resolution" in done.stderr, done


def test_a_name_that_does_not_resolve_is_told_by_everybody():
    """operations.O15: silent at a worker, "no broker answered" at a client."""
    name = "nonexistent.invalid"
    done = peach("map", "--insecure", "-t", 2, "-c", name, "fnc", 1)
    assert done.returncode == 3 and name in done.stderr
    assert "not known" in done.stderr or "resolution" in done.stderr, done.stderr
    worker = Process(BIN / "peach-worker", "--insecure", "--connect", name)
    try:
        until(lambda: name in worker.said(), 20)
        assert "not known" in worker.said() or "resolution" in worker.said(), worker.said()
        assert worker.process.poll() is None  # it may come to resolve
    finally:
        worker.stop()


@pytest.fixture
def hosts_file(tmp_path):
    """A prefix with which only6.test is ::1 and later.test what is written into the file."""
    if subprocess.run(["unshare", "--mount", "true"]).returncode:
        pytest.skip("no mount namespace can be made here")
    if not os.path.exists("/etc/hosts"):
        pytest.skip("there is no /etc/hosts to mount another one over")
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1 localhost\n::1 only6.test\n")
    return file, ("unshare", "--mount", "sh", "-c",
                  f'mount --bind {file} /etc/hosts && exec "$@"', "sh")


def test_a_name_that_has_only_an_address_of_ipv6(hosts_file):
    """operations.O15: it never connected."""
    _, prefix = hosts_file
    port = free_port()
    env = {"PEACH_BROKER": f"tcp://only6.test:{port}", "PEACH_INSECURE": "1"}
    programs = [Process(BIN / "peach-broker", "--bind", f"tcp://[::1]:{port}"),
                Process(BIN / "peach-worker", "-l", TASKS, prefix=prefix, env=env)]
    try:
        done = subprocess.run([*prefix, BIN / "peach", "map", "--quiet", "-t", "20", "fnc", "1"],
                              capture_output=True, text=True, timeout=60 * SLOW,
                              env={**os.environ, **env})
        assert done.returncode == 0, (done, [p.said() for p in programs])
        assert done.stdout == "1\n"
    finally:
        for program in programs:
            program.stop()


def test_a_name_that_moves_is_looked_up_again(hosts_file):
    """A broker that is restarted elsewhere, as containers are."""
    file, prefix = hosts_file
    port = free_port()
    env = {"PEACH_INSECURE": "1"}
    worker = Process(BIN / "peach-worker", "--connect", f"later.test:{port}", "-l", TASKS, env=env,
                     prefix=prefix)
    broker = Process(BIN / "peach-broker", "--bind", f"127.0.0.3:{port}")
    try:
        time.sleep(1)
        file.write_text("127.0.0.1 localhost\n127.0.0.3 later.test\n")
        until(lambda: peach("map", "--quiet", "-t", 1, "-c", f"127.0.0.3:{port}", "fnc", 1,
                            env=env).stdout == "1\n", 30)
        broker.stop()
        broker = Process(BIN / "peach-broker", "--bind", f"127.0.0.4:{port}")
        file.write_text("127.0.0.1 localhost\n127.0.0.4 later.test\n")
        until(lambda: peach("map", "--quiet", "-t", 1, "-c", f"127.0.0.4:{port}", "fnc", 1,
                            env=env).stdout == "1\n", 60)
    finally:
        worker.stop()
        broker.stop()


@pytest.fixture
def silent_name_server(tmp_path):
    """A prefix with which names are asked for at a server that never answers."""
    if subprocess.run(["unshare", "--mount", "true"]).returncode or os.geteuid() != 0:
        pytest.skip("no mount namespace can be made here")
    if not os.path.exists("/etc/resolv.conf"):
        pytest.skip("there is no /etc/resolv.conf to mount another one over")
    file = tmp_path / "resolv.conf"
    file.write_text("nameserver 127.0.0.77\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.77", 53))
        yield ("unshare", "--mount", "sh", "-c",
               f'mount --bind {file} /etc/resolv.conf && exec "$@"', "sh")


def test_a_name_server_that_is_silent_costs_no_more_than_a_silent_broker(fleet, silent_name_server):
    """The next broker of the list is there, and was waited for as long as the name server."""
    brokers = f"later.test:5001,{fleet.endpoint}"
    env = {**os.environ, "PEACH_INSECURE": "1", "PEACH_BROKER": brokers}
    worker = Process(BIN / "peach-worker", "-l", TASKS, env=env, prefix=silent_name_server)
    try:
        until(lambda: fleet.count_ready() == 1, 4 * SLOW)
        done = subprocess.run([*silent_name_server, BIN / "peach", "map", "--quiet", "-t",
                               str(4 * SLOW), "fnc", "1"], capture_output=True, text=True,
                              timeout=60 * SLOW, env=env)
        assert done.returncode == 0 and done.stdout == "1\n", done
    finally:
        worker.stop()


CONNECTS = """
import sys, time
import peach
begin = time.monotonic()
with peach.connect(sys.argv[1], timeout=float(sys.argv[2])) as client:
    print(time.monotonic() - begin)
"""


def python(code, *args, env=None):
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], capture_output=True,
                          text=True, timeout=60 * SLOW,
                          env={**os.environ, "PYTHONPATH": str(BIN.parent / "python"),
                               **(env or {})})


def test_brokers_that_refuse_cost_no_time(fleet):
    """worker.C9: a second each; connect("dead,good", 500 ms) failed."""
    dead = [f"127.0.0.1:{free_port()}" for _ in range(5)]
    done = python(CONNECTS, ",".join([*dead, fleet.endpoint]), 4)
    assert done.returncode == 0, done.stderr
    fleet.worker(1, TASKS)
    env = {"PEACH_BROKER": ",".join([*dead, fleet.endpoint])}
    assert lines(peach("map", "--quiet", "-t", 4, "fnc", 1, env=env, check=0)) == [1]


def test_a_client_may_be_started_before_its_broker():
    """operations.N11, O15: -t did not extend the wait of 3 s."""
    port = free_port()
    client = Process(BIN / "peach", "status", "-t", 20, "-c", port)
    time.sleep(4)
    fleet = None
    try:
        assert client.process.poll() is None
        fleet = Process(BIN / "peach-broker", "--bind", port)
        assert client.wait(20) == 0, client.said()
    finally:
        client.stop()
        if fleet:
            fleet.stop()


# ---- what is not loopback ----

@pytest.fixture
def remote():
    """An address of this host that is not loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        try:
            s.connect(("192.0.2.1", 9))
            return s.getsockname()[0]
        except OSError:
            pytest.skip("this host has loopback only")


def test_clients_ask_for_a_word_too(remote):
    """operations.N12: code and data went in clear, results were unpickled from there."""
    port = free_port()
    fleet = Process(BIN / "peach-broker", "--insecure", "--bind", f"{remote}:{port}")
    try:
        until(lambda: "listening" in fleet.said(), 10)
        endpoint = f"tcp://{remote}:{port}"
        for command in (["status"], ["map", "fnc", 1], ["call", "fnc", 1], ["workers"],
                        ["preload", "math:sqrt"], ["drain", "--all"], ["bench"]):
            done = peach(*command, "-c", endpoint)
            assert done.returncode == 4 and "--insecure" in done.stderr, (command, done)
        peach("status", "--insecure", "-c", endpoint, check=0)
        peach("status", "-c", endpoint, env={"PEACH_INSECURE": "1"}, check=0)
        done = python(CONNECTS, endpoint, 5)
        assert done.returncode == 1 and "insecure=True" in done.stderr, done
        done = python(CONNECTS.replace("timeout=", "insecure=True, timeout="), endpoint, 5)
        assert done.returncode == 0, done.stderr
        done = python(CONNECTS, endpoint, 5, env={"PEACH_INSECURE": "1"})
        assert done.returncode == 0, done.stderr
    finally:
        fleet.stop()


@pytest.mark.parametrize("endpoint", ["tcp://8.8.8.8:5001", "8.8.8.8", "example.org:5001",
                                      "tcp://0.0.0.0:5001", "[::2]:5001",
                                      "tcp://127.0.0.1:5001,tcp://8.8.8.8:5001"])
def test_nothing_is_sent_to_where_no_word_was_said(endpoint):
    """operations.N12"""
    for program in (["map", "-t", 2, "fnc", 1], ["status", "-t", 2]):
        done = peach(*program, "-c", endpoint)
        assert done.returncode == 4 and "not a loopback address" in done.stderr, done
    done = python(CONNECTS, endpoint, 2)
    assert done.returncode == 1 and "not a loopback address" in done.stderr, done
