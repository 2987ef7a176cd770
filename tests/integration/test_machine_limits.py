"""A process that runs into a limit of the machine for a while: items are right or end with a
named error, nobody spins, and when the limit is lifted all is as before (reliability, check 9).
A full $TMPDIR is in test_store.py."""
import json
import os
import pathlib
import resource
import signal
import subprocess
import threading
import time

import pytest
from conftest import BIN, FULL, HERE, SANITIZED, SLOW, cpu_seconds, executors, lines, open_for, until

TASKS = HERE / "tasks.py"
SECONDS = 5 if FULL else 2


def status(pid, field):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])


def limit(pid, kind):
    """The process may have hardly more than it has; returns what undoes that."""
    if kind == "memory":
        before = resource.prlimit(pid, resource.RLIMIT_AS)
        most = (status(pid, "VmSize") << 10) + (2 << 20)
        resource.prlimit(pid, resource.RLIMIT_AS, (most, before[1]))
        return lambda: resource.prlimit(pid, resource.RLIMIT_AS, before)
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir(f"/proc/{pid}/fd"))) + 3
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, before[1]))
    return lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def works(fleet):
    """1,000 items are right within ten seconds."""
    begin = time.monotonic()
    assert lines(fleet("map", "--quiet", "fnc", "1..1000", check=0)) == list(range(1, 1001))
    assert time.monotonic() - begin < 10 * SLOW


def are_idle(pids, seconds=1.5):
    before = {pid: cpu_seconds(pid) for pid in pids}
    time.sleep(seconds)
    for pid in pids:
        assert cpu_seconds(pid) - before[pid] < 0.2 * seconds * SLOW, \
            pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()


def results(text, items):
    """Each is its item, or an error that has a name and words."""
    good = 0
    for line, item in zip(text.splitlines(), items, strict=True):
        got = json.loads(line)
        if isinstance(got, dict) and "error" in got:
            assert got["error"]["status"].startswith("PEACH_E_"), got
            assert got["error"]["message"], got
        else:
            assert got == item
            good += 1
    return good


@pytest.mark.parametrize("kind", [
    pytest.param("memory", marks=pytest.mark.skipif(
        SANITIZED, reason="the sanitizer's own memory is limited, too")), "descriptors"])
@pytest.mark.parametrize("role", ["broker", "worker", "executor"])
def test_a_process_at_its_limit(make_fleet, tmp_path, role, kind):
    fleet = make_fleet()
    worker = fleet.worker(2, TASKS)
    pid = {"broker": fleet.broker.pid, "worker": worker.pid, "executor": executors(worker)[0]}[role]
    items = list(range(300)) + ["x" * size for size in (1000, 100_000, 1_000_000)] * 4
    (tmp_path / "items").write_text("\n".join(map(json.dumps, items)))
    lift = limit(pid, kind)
    begin = time.monotonic()
    client = subprocess.Popen([BIN / "peach", "map", "--quiet", "--chunk", "1", "fnc",
                               f"@{tmp_path}/items"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env={**os.environ, **fleet.env})
    try:
        try:
            out, err = client.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            out = None
        if out is not None:
            are_idle([p for p in (fleet.broker.pid, worker.pid) if os.path.exists(f"/proc/{p}")])
        time.sleep(max(0, SECONDS - (time.monotonic() - begin)))
        if os.path.exists(f"/proc/{pid}"):
            lift()
        if out is None:
            out, err = client.communicate(timeout=60 * SLOW)
    finally:
        client.kill()
        client.wait()
    no_broker = client.returncode == 3 and "no broker answered" in err  # it is out for too long
    assert client.returncode in (0, 1) or no_broker, err
    good = 0 if no_broker else results(out, items)
    print(f"{role}, {kind}: {good} of {len(items)} right; {err.strip()[:200]}")
    assert fleet.broker.process.poll() is None and worker.process.poll() is None
    until(lambda: fleet.count_ready() == 1 and len(executors(worker)) == 2, 30)
    works(fleet)
    are_idle([fleet.broker.pid, worker.pid])


@pytest.mark.parametrize("kind", [
    pytest.param("memory", marks=pytest.mark.skipif(
        SANITIZED, reason="the sanitizer's own memory is limited, too")), "descriptors"])
def test_a_client_at_its_limit(fleet, tmp_path, kind):
    fleet.worker(2, TASKS)
    items = [f"{i} " + "x" * 200_000 for i in range(200)]
    feed, out, err = tmp_path / "feed", tmp_path / "out", tmp_path / "err"
    os.mkfifo(feed)
    client = subprocess.Popen([BIN / "peach", "map", "--quiet", "fnc", f"@{feed}"],
                              stdout=open(out, "w"), stderr=open(err, "w"),
                              env={**os.environ, **fleet.env})
    try:
        with open_for(client, feed) as pipe:
            until(lambda: any(c["pid"] == client.pid for c in fleet.view()["clients"]), 10)
            lift = limit(client.pid, kind)
            lifter = threading.Timer(SECONDS, lambda: client.poll() is None and lift())
            lifter.start()
            pipe.write("\n".join(map(json.dumps, items[:100])) + "\n")
            pipe.flush()
            lifter.join()
            pipe.write("\n".join(map(json.dumps, items[100:])) + "\n")
    except BrokenPipeError:
        pass
    finally:
        try:
            client.wait(60 * SLOW)
        finally:
            client.kill()
            client.wait()
    said = err.read_text()
    if client.returncode in (0, 1) and out.read_text().count("\n") == len(items):
        print(f"client, {kind}: {results(out.read_text(), items)} of {len(items)} right; {said[:200]}")
    else:  # it may have to give up, in words
        assert client.returncode in (1, 2, 3) and said.startswith("peach: "), (client, said)
        print(f"client, {kind}: {client.returncode}, {said[:200]}")
    works(fleet)


@pytest.fixture
def pids_group():
    """A control group that counts processes."""
    for root in (pathlib.Path("/sys/fs/cgroup/pids"), pathlib.Path("/sys/fs/cgroup")):
        made = root / f"peach-test-{os.getpid()}"
        try:
            made.mkdir()
        except OSError:
            continue
        if (made / "pids.max").exists():
            yield made
            for pid in (made / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
            until(lambda: not (made / "cgroup.procs").read_text(), 10)
            made.rmdir()
            return
        made.rmdir()
    pytest.skip("no control group of processes can be made here")


@pytest.mark.held
@pytest.mark.parametrize("how", ["spawn", "fork"])
def test_a_worker_that_may_start_no_process(pids_group, make_fleet, how):
    """Its executors die one after the other meanwhile; it serves again when it may."""
    fleet = make_fleet()
    worker = fleet.worker(2, TASKS, args=("--start", how))
    (pids_group / "cgroup.procs").write_text(str(worker.pid))
    for pid in executors(worker):
        (pids_group / "cgroup.procs").write_text(str(pid))
    current = int((pids_group / "pids.current").read_text())
    (pids_group / "pids.max").write_text(str(current - 2))
    for pid in executors(worker)[-2:]:
        os.kill(pid, signal.SIGKILL)
    time.sleep(0.5)
    client = fleet.start("peach", "map", "--quiet", "fnc", "1..100")
    time.sleep(SECONDS)
    assert worker.process.poll() is None
    are_idle([fleet.broker.pid, worker.pid])
    (pids_group / "pids.max").write_text("max")
    client.wait(60)
    assert client.process.returncode == 0, client.said()
    until(lambda: fleet.count_ready() == 1, 30)
    works(fleet)
