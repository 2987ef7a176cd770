"""The worker's own folder in $TMPDIR."""
import os
import signal
import subprocess

import pytest
from conftest import HERE, lines, until

TASKS = HERE / "tasks.py"


def folders(tmp_path):
    return sorted(p.name for p in tmp_path.glob("peach-worker-*"))


def push(fleet, path, **more):
    return fleet("preload", path, **more)


def test_a_killed_workers_folder_goes_with_the_next_one(fleet, tmp_path, plugin):
    """worker.C8, operations.O15: it stayed for ever."""
    place = tmp_path / "tmp"
    place.mkdir()
    (place / "peach-worker-of-somebody").write_text("a file")
    fleet.env["TMPDIR"] = str(place)
    native = plugin(one="peach_value_int(1)")
    killed = fleet.worker(1, TASKS)
    push(fleet, native, check=0)
    left = folders(place)
    assert len(left) == 2
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert folders(place) == left
    for name in left:  # young ones may not be locked yet
        os.utime(place / name, (1, 1))
    worker = fleet.worker(1, TASKS)
    push(fleet, native, check=0)
    until(lambda: len(folders(place)) == 2 and folders(place) != left, 10)
    beside = fleet.worker(1, TASKS)  # who is alive keeps what it has
    push(fleet, native, check=0)
    assert lines(fleet("map", "--quiet", "one", *range(20), check=0)) == [1] * 20
    assert len(folders(place)) == 3
    for one in (worker, beside):
        one.signal(signal.SIGTERM)
        one.wait(10)
    assert folders(place) == ["peach-worker-of-somebody"]


@pytest.fixture
def full(tmp_path):
    """A folder on a file system that is full."""
    place = tmp_path / "full"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", place]).returncode:
        pytest.skip("no file system can be mounted here")
    (place / "filler").write_bytes(b"x" * 60000)
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_is_told_by_name(full, fleet, plugin):
    """operations.O15, N27: "the operating system refused"."""
    fleet.env["TMPDIR"] = str(full)
    worker = fleet.worker(1, TASKS)
    before = len(os.listdir(f"/proc/{worker.pid}/fd"))
    native = plugin(one="peach_value_int(1)")
    for _ in range(5):
        done = push(fleet, native)
        assert done.returncode != 0
        assert "No space left on device" in done.stderr and str(full) in done.stderr, done.stderr
    assert len(os.listdir(f"/proc/{worker.pid}/fd")) <= before + 1
    left = [p for p in full.rglob("*") if p.is_file() and p.name != "filler"]
    assert left == []
    (full / "filler").unlink()
    push(fleet, native, check=0)
    assert lines(fleet("map", "--quiet", "one", 1, check=0)) == [1]


@pytest.mark.parametrize("folder", ["/nonexistent/folder", "/proc"])
def test_a_folder_that_cannot_be_written_to_is_told_by_name(fleet, plugin, folder):
    fleet.env["TMPDIR"] = folder
    fleet.worker(1, TASKS)
    done = push(fleet, plugin(one="peach_value_int(1)"))
    assert done.returncode != 0 and folder in done.stderr, done.stderr
    assert lines(fleet("map", "--quiet", "fnc", 1, check=0)) == [1]
