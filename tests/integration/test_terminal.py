"""peach on a terminal: what its one line shows."""
import fcntl
import os
import pty
import re
import select
import struct
import termios
import time

from conftest import BIN, HERE, SLOW

TASKS = HERE / "tasks.py"


def on_terminal(*args, env=None, columns=100, timeout=60):
    """(exit status, the lines that were shown, one written over the other)"""
    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        os.execve(BIN / "peach", ["peach", *map(str, args)], {**os.environ, **(env or {})})
    shown, end = b"", time.monotonic() + timeout * SLOW
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(fd, 65536)
        except OSError:  # it ended
            break
        shown += data
    os.close(fd)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code, [x.replace("\x1b[K", "") for x in re.split(r"[\r\n]+", shown.decode())]


def test_the_bar_tells_rate_and_time_left():
    code, shown = on_terminal("run", "-n", 1, "-l", TASKS, "--chunk", 1, "nap", *["0.3"] * 6)
    assert code == 0 and shown.count("0.3") == 6
    bars = [line for line in shown if line.startswith("[")]
    assert any(re.fullmatch(r"\[#+\.+\] [1-5]/6, 1 slot, \d+\.\d/s, 0:0\d, 0:0\d left", bar)
               for bar in bars), bars
    assert re.fullmatch(r"\[#{30}\] 6/6, 1 slot, \d+\.\d/s, 0:0\d", bars[-1])


def test_the_bar_fits_a_narrow_terminal():
    code, shown = on_terminal("run", "-n", 1, "-l", TASKS, "--chunk", 1, "nap", *["0.3"] * 6,
                              columns=36)
    assert code == 0 and max(map(len, shown)) < 36


def test_a_preload_that_takes_long_is_shown(script):
    """operations.N13"""
    slow = script("import time\ntime.sleep(2)\ndef f(x):\n    return x\n", "slow.py")
    code, shown = on_terminal("run", "-n", 2, "-l", slow, "f", 1)
    assert code == 0 and "loading slow.py on 2 slots, 0:01" in shown


def test_init_and_preload_show_what_loads(fleet, script):
    """operations.N13"""
    fleet.worker(2)
    for command in (["preload"], ["init", "-n", "2"]):
        slow = script(f"import time\ntime.sleep(2)\ndef f(x):\n    return {command!r}\n", "slow.py")
        code, shown = on_terminal(*command, slow, env=fleet.env)
        assert code == 0 and "loading slow.py on 2 slots, 0:01" in shown, shown
    code, shown = on_terminal("preload", "--quiet", script("import time\ntime.sleep(1)\n", "q.py"),
                              env=fleet.env)
    assert code == 0 and shown == [""]


def test_interrupts_clear_the_bar():
    """operations.N29"""
    pid, fd = pty.fork()
    if pid == 0:
        os.execv(BIN / "peach", ["peach", "run", "-n", "1", "-l", str(TASKS), "nap", "30"])
    shown, end, sent = b"", time.monotonic() + 30 * SLOW, False
    while time.monotonic() < end:
        try:
            if select.select([fd], [], [], 0.1)[0]:
                shown += os.read(fd, 65536)
        except OSError:
            break
        if b"0/1" in shown and not sent:
            os.write(fd, b"\x03")
            sent = True
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    last = shown.decode().replace("\x1b[K", "").split("\r")
    assert last[-2] == "peach: interrupted" and "failed" not in shown.decode()
