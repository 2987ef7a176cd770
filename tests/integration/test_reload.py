"""An executor that was lost loads again what its worker registered, whatever became of it."""
import os
import shutil
import signal

import pytest
from conftest import BIN, executors, lines, until

MATHX = BIN.parent / "examples" / "mathx.so"


def lose_an_executor(worker):
    before = executors(worker)
    os.kill(before[0], signal.SIGKILL)
    until(lambda: before[0] not in executors(worker), 5)


def state_of(fleet):
    return fleet.workers()[0]["preloads"][0]["state"]


def all_run(fleet, slots):
    """The executors that take part when there is enough for all of them to do."""
    return len(set(lines(fleet("map", "pid", f"0..{slots * 20}", check=0)))) == slots


@pytest.mark.parametrize("edited", ["def f(x): return 'new'\n", "def f(x: no Python\n", None, ""])
def test_a_file_that_was_edited_since_is_what_it_was(fleet, script, edited):
    path = script("import pathlib, sys\ndef f(x):\n    return 'old'\n")
    worker = fleet.worker(2, path)
    os.unlink(path)
    if edited is not None:
        script(edited)
    for _ in range(2):
        lose_an_executor(worker)
        until(lambda: len(executors(worker)) == 2, 5)
    assert lines(fleet("map", "f", "0..9", check=0)) == ["old"] * 10
    assert state_of(fleet) == "ready"


def test_a_traceback_shows_the_lines_that_ran(fleet, script):
    path = script("def f(x):\n    raise ValueError('as it was')\n")
    worker = fleet.worker(1, path)
    script("# another\n# file\n")
    lose_an_executor(worker)
    error = lines(fleet("map", "f", 1, check=1))[0]["error"]
    assert f'File "{path}"' in error["traceback"]
    assert "raise ValueError('as it was')" in error["traceback"]


def test_a_plugin_that_was_replaced_is_what_it_was(fleet, tmp_path):
    plugin = tmp_path / "mathx.so"
    shutil.copy(MATHX, plugin)
    worker = fleet.worker(1, plugin)
    plugin.unlink()
    plugin.write_text("nothing that can be loaded")
    lose_an_executor(worker)
    assert lines(fleet("map", "mathx.prime", 1, 2, check=0)) == [False, True]


def test_an_interrupt_that_comes_too_late_does_not_hit_a_preload(fleet, script):
    """The item is over its time, but lets the signal through only when it is over."""
    fleet.worker(1, script(
        "import signal, time\n"
        "def late(x):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "    time.sleep(1)\n", "late.py"))
    fleet("map", "--item-timeout", 0.3, "--retries", 0, "late", 1)
    path = script("import signal\nsignal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])\n"
                  "def f(x):\n    return x + sum(range(1000))\n")
    fleet("preload", path, check=0)
    assert lines(fleet("map", "f", 1, check=0)) == [499501]


def test_an_empty_preload_is_one(fleet, script):
    worker = fleet.worker(1, script(""))
    lose_an_executor(worker)
    until(lambda: executors(worker), 5)
    assert state_of(fleet) == "ready"


FICKLE = """import os
if os.path.exists({flag!r}):
    {how}
def pid(x):
    import time
    time.sleep(0.02)
    return os.getpid()
"""


@pytest.mark.parametrize("how", ["raise RuntimeError('no database')", "os.kill(os.getpid(), 9)"])
def test_one_that_cannot_load_again_takes_nothing_from_the_others(fleet, script, tmp_path, how):
    flag = tmp_path / "flag"
    worker = fleet.worker(2, script(FICKLE.format(flag=str(flag), how=how)))
    assert all_run(fleet, 2)
    flag.touch()
    lose_an_executor(worker)
    assert all_run(fleet, 1) and state_of(fleet) == "ready"
    assert "could not load script.py again" in worker.said()
    flag.unlink()
    until(lambda: all_run(fleet, 2), 10)


def test_a_worker_that_cannot_load_again_at_all_says_so(fleet, script, tmp_path):
    flag = tmp_path / "flag"
    path = script(FICKLE.format(flag=str(flag), how="raise RuntimeError('no database')"))
    worker = fleet.worker(1, path)
    flag.touch()
    lose_an_executor(worker)
    until(lambda: state_of(fleet) == "failed", 10)
    assert "no database" in fleet.workers()[0]["preloads"][0]["error"]
    assert worker.said().count("could not load script.py again") > 1
    # What asks for it goes where it can run.
    flag.unlink()
    other = fleet.worker(1, path)
    assert lines(fleet("map", "pid", 1, check=0)) == executors(other)
