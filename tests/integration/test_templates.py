"""--start fork: executors are copies of a template. It may stop, stall or die like any other
process, and the worker goes on."""
import os
import pathlib
import signal
import subprocess
import time

from conftest import HERE, executors, lines, until

TASKS = HERE / "tasks.py"


def is_template(pid):
    return os.path.exists(f"/proc/{pid}/fd/6")  # the socket on which it is asked for copies


def template_of(worker):
    return next(filter(is_template, executors(worker)))


def copies_of(worker):
    return [pid for pid in executors(worker) if not is_template(pid)]


def test_a_template_that_does_not_answer_stops_nobody(fleet):
    """worker.B5: the worker stood still for 10 s; no heartbeats, no results."""
    worker = fleet.worker(2, TASKS, args=("--start", "fork"))
    template, copies = template_of(worker), copies_of(worker)
    os.kill(template, signal.SIGSTOP)
    os.kill(copies[0], signal.SIGKILL)
    until(lambda: copies[0] not in executors(worker), 5)
    begin = time.monotonic()
    assert lines(fleet("map", "--quiet", "nap", *["0.01"] * 50, check=0)) == [0.01] * 50
    assert time.monotonic() - begin < 8  # the map alone is 0.5 s
    os.kill(template, signal.SIGCONT)
    until(lambda: len(copies_of(worker)) == 2, 30)


def test_a_late_answer_is_not_taken_for_another(fleet):
    """worker.B5: the slot had the pid of a dead process; nothing stopped its items."""
    worker = fleet.worker(2, TASKS, args=("--start", "fork"))
    template, copies = template_of(worker), copies_of(worker)
    os.kill(template, signal.SIGSTOP)
    os.kill(copies[0], signal.SIGKILL)
    time.sleep(12)
    if os.path.exists(f"/proc/{template}"):  # by now another one may have its place
        os.kill(template, signal.SIGCONT)
    until(lambda: len(copies_of(worker)) == 2, 30)
    done = fleet("map", "--quiet", "--retries", 0, "--chunk", 1, "--item-timeout", 0.5, "nap", 60,
                 60, 60, 60, timeout=40)
    assert [x["error"]["status"] for x in lines(done)] == ["PEACH_E_TIMEOUT"] * 4
    assert copies[0] not in copies_of(worker)
    assert lines(fleet("map", "--quiet", "fnc", "1..100", check=0)) == list(range(1, 101))


def test_a_template_that_stays_stopped_is_replaced(fleet):
    """worker.B5"""
    worker = fleet.worker(1, TASKS, args=("--start", "fork"))
    template, copy = template_of(worker), copies_of(worker)[0]
    os.kill(template, signal.SIGSTOP)
    os.kill(copy, signal.SIGKILL)
    until(lambda: template not in executors(worker), 40)
    assert lines(fleet("map", "--quiet", "fnc", "1..20", check=0, timeout=30)) == \
        list(range(1, 21))
    assert template_of(worker) != template


def test_a_copy_whose_worker_was_killed_meanwhile_ends(fleet, tmp_path):
    """worker.C5: it spun for ever. The process between template and copy ends late here."""
    source, slow = tmp_path / "slow.c", tmp_path / "slow.so"
    source.write_text("#include <unistd.h>\n#include <stdlib.h>\n#include <sys/syscall.h>\n"
                      "void _exit(int code)\n{\n    if (access(getenv(\"SLOW\"), F_OK) == 0) sleep(2);\n"
                      "    syscall(SYS_exit_group, code);\n    for (;;) ;\n}\n")
    subprocess.run(["cc", "-shared", "-fPIC", source, "-o", slow], check=True)
    flag = tmp_path / "flag"
    fleet.env.update(LD_PRELOAD=str(slow), SLOW=str(flag))
    worker = fleet.worker(1, TASKS, args=("--start", "fork"))
    flag.write_text("")
    copy = copies_of(worker)[0]

    def ours():
        """Executors of this worker, also when they are nobody's children any more."""
        found = set()
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if str(flag).encode() in (folder / "environ").read_bytes() and \
                        b"peach-executor" in (folder / "cmdline").read_bytes():
                    found.add(int(folder.name))
            except OSError:
                pass
        return found

    before = ours()
    os.kill(copy, signal.SIGKILL)
    until(lambda: ours() - before, 10)  # the one between, and the copy
    worker.signal(signal.SIGKILL)
    worker.wait()
    until(lambda: not ours(), 10)
