"""What people see of a fleet: status, workers, functions."""
import os
import subprocess

import pytest
from conftest import BIN, EXAMPLES, HERE, lines, open_for, until

TASKS = HERE / "tasks.py"
MULTIP = EXAMPLES / "multip.py"


def test_columns_fit_what_is_in_them(fleet):
    """operations.N28: labels stood among the preloads, and a long host shifted its line"""
    label = "host=worker-7f9c6d5b4-abcde.compute.internal.example"
    fleet.worker(1, TASKS, args=("--label", label, "--label", "gpu=1"))
    fleet.worker(2, MULTIP)
    text = fleet("workers", check=0).stdout
    rows = text.splitlines()
    at = rows[0].index("PRELOADS")
    assert sorted(row[at:] for row in rows[1:]) == ["multip.py", "tasks.py"]
    labels = [row[rows[0].index("LABELS"):at].strip() for row in rows[1:]]
    assert sorted(labels) == ["", f"{label},gpu=1"]
    assert "[" not in text


def test_one_is_one_and_two_are_two(fleet):
    """operations.N25: "1 workers, 1 clients", and the client was the command itself"""
    fleet.worker(1, MULTIP)
    text = fleet("status", check=0).stdout
    assert "1 worker, 1 slot, 2 functions, 0 clients" in text
    waiting = fleet.start("peach", "map", "--require", "x=1", "fnc", "1")
    until(lambda: len(fleet.view()["clients"]) == 2, 10)
    assert " 1 client\n" in fleet("status", check=0).stdout
    waiting.stop()


def test_a_function_is_shown_once(fleet):
    """operations.N25: fnc and multip.fnc are one"""
    fleet.worker(1, MULTIP, BIN.parent / "examples" / "mathx.so", "datetime:datetime.now")
    rows = fleet("functions", check=0).stdout.splitlines()
    names = [row.split()[0] for row in rows[1:]]
    assert names == sorted(names) and len(set(names)) == len(names)
    assert {"fnc", "func", "square", "prime", "datetime.now"} <= set(names)
    assert not {"multip.fnc", "mathx.square", "datetime.datetime.now"} & set(names)
    assert {f["name"] for f in fleet.view()["functions"]} >= {"multip.fnc", "fnc"}  # JSON has all


def test_versions_that_a_worker_had_before_are_not_shown(fleet, script):
    """operations.N20, operations.O15: each push of an edited file added a line"""
    fleet.worker(1)
    fleet.worker(1)
    for version in range(3):
        path = script(f"def f(x):\n    return {version}\n")
        fleet("preload", path, check=0)
    text = fleet("functions", check=0).stdout
    assert len(text.splitlines()) == 2 and "several versions" not in text
    assert text.splitlines()[1].split()[-2:] == ["2", "2"]
    assert "1 function," in fleet("status", check=0).stdout


def test_versions_that_differ_between_workers_are(fleet, tmp_path):
    for version in (1, 2):
        folder = tmp_path / str(version)
        folder.mkdir()
        (folder / "same.py").write_text(f"def f(x):\n    return {version}\n")
        fleet.worker(1, folder / "same.py")
    rows = fleet("functions", check=0).stdout.splitlines()[1:]
    assert len(rows) == 2 and all("several versions" in row for row in rows)


def test_init_tells_where_the_log_is(fleet, tmp_path):
    """operations.N31, and "where worker logs are is only in --help" """
    env = {"XDG_STATE_HOME": str(tmp_path)}
    fleet.env.update(env)
    done = fleet("init", "-n", 1, check=0)
    assert f"{tmp_path}/peach/worker.log" in done.stderr
    assert os.path.exists(tmp_path / "peach" / "worker.log")
    assert lines(fleet("map", "--source", "lambda x: x", 1, check=0)) == [1]


def test_init_that_cannot_start_a_worker_says_so(fleet, tmp_path):
    """worker.C14: the second of two forks was not looked at, and init waited for its timeout."""
    source, scarce = tmp_path / "scarce.c", tmp_path / "scarce.so"
    source.write_text("#include <errno.h>\n#include <unistd.h>\nstatic pid_t first;\n"
                      "__attribute__((constructor)) static void begin(void) { first = getpid(); }\n"
                      "extern pid_t __libc_fork(void);\n"
                      "pid_t fork(void)\n{\n    if (getpid() == first) return __libc_fork();\n"
                      "    errno = EAGAIN;\n    return -1;\n}\n")
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", scarce], check=True)
    fleet.env["LD_PRELOAD"] = str(scarce)
    done = fleet("init", "-n", 1, check=1)
    assert "cannot start peach-worker: Resource temporarily unavailable" in done.stderr


def test_jobs_are_seen_and_can_be_cancelled_by_anybody(fleet):
    """operations, what dask's and ray's users miss: how far a map is, whose it is, and its end."""
    fleet.worker(2, TASKS)
    mine = fleet.start("peach", "map", "--quiet", "--chunk", 1, "late", "1..5000")
    other = fleet.start("peach", "map", "--quiet", "nap", 600)
    until(lambda: len(fleet.view()["jobs"]) == 2 and
          any(job["done"] > 3 for job in fleet.view()["jobs"]), 20)
    jobs = {job["function"]: job for job in fleet.view()["jobs"]}
    assert jobs["late"]["items"] == 5000 and jobs["late"]["items_final"]
    assert jobs["late"]["pid"] == mine.pid and jobs["nap"]["pid"] == other.pid
    shown = fleet("status", check=0).stdout
    assert f"/{5000}" in shown and "nap" in shown
    done = fleet("cancel", jobs["late"]["id"], check=0)
    assert done.stdout == "cancelled 1 job\n"
    assert mine.wait(20) == 1 and "cancelled" in mine.said()
    assert other.process.poll() is None
    assert fleet("cancel", "--all", check=0).stdout == "cancelled 1 job\n"
    assert other.wait(20) == 1
    until(lambda: not fleet.view()["jobs"], 10)


@pytest.mark.parametrize("args, words", [
    (["cancel"], "--all"), (["cancel", "x"], "'x' is no job"), (["cancel", "-1"], "no job"),
    (["cancel", "5", "--all"], "their numbers, or --all"), (["unload"], "name preloads")])
def test_what_is_to_be_cancelled_or_unloaded_has_to_be_said(fleet, args, words):
    done = fleet(*args, check=2)
    assert words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_job_that_is_not_there_is_told(fleet):
    done = fleet("cancel", 4711, check=1)
    assert done.stderr.startswith("peach: no such job")


def test_a_job_that_waits_for_its_input_can_be_cancelled(fleet, tmp_path):
    """Of the same kind: it has no task at the broker then; it was counted, and went on."""
    fleet.worker(1, TASKS)
    feed, out = tmp_path / "feed", tmp_path / "out"
    os.mkfifo(feed)
    with open(out, "w") as file:
        client = fleet.start("peach", "map", "--quiet", "fnc", f"@{feed}", stdout=file)
    with open_for(client.process, feed) as pipe:
        for text in ("1\n", None, "2\n"):
            if text:
                pipe.write(text)
                pipe.flush()
                until(lambda: client.process.poll() is not None or out.read_text(), 10)
            else:
                until(lambda: fleet.view()["jobs"][0]["done"] == 1, 10)
                assert fleet("cancel", "--all", check=0).stdout == "cancelled 1 job\n"
                assert fleet("cancel", "--all", check=None).stdout == "cancelled 0 jobs\n"
        assert client.wait(20) == 1
    assert "cancelled" in client.said() and out.read_text() == "1\n"
