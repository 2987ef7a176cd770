"""--memory: what an executor and its children have of their own."""
import os
import subprocess
import sys

import pytest
from conftest import BIN, HERE, SLOW, executors, lines, until

TASKS = HERE / "tasks.py"

SHARED = """
import sys
import numpy as np
import peach
client = peach.connect(timeout=10)
big = np.ones(200 << 17)  # 200 MiB
ref = client.put(big)
def total(a, i):
    import time
    found = float(a.sum()) + i
    time.sleep(0.5)  # it is weighed ten times a second
    return found
client = client.options(retries=0)
assert client.starmap(total, [(ref, i) for i in range(4)]) == [200.0 * (1 << 17) + i for i in range(4)]
assert client.starmap(total, [(big[:190 << 17], 0)]) == [190.0 * (1 << 17)]
"""


def test_what_is_shared_is_nobodys_own(fleet):
    """worker.B6: whoever read a value of 200 MiB took 200 MiB of a limit of 150."""
    fleet.worker(2, TASKS, args=("--memory", 150))
    done = subprocess.run([sys.executable, "-c", SHARED], capture_output=True, text=True,
                          timeout=120 * SLOW,
                          env={**os.environ, **fleet.env, "PYTHONPATH": str(BIN.parent / "python")})
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.held
@pytest.mark.parametrize("how", ["bytearray(300 << 20)", "[0] * (40 << 20)",
                                 "mmap.mmap(-1, 300 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)"])
def test_what_is_an_items_own_counts(fleet, script, how):
    worker = fleet.worker(1, TASKS, script(
        "import mmap, time\ndef take(_):\n"
        f"    x = {how}\n    for i in range(0, len(x), 512): x[i] = 1\n    time.sleep(20)\n"),
        args=("--memory", 150))
    before = executors(worker)
    done = fleet("map", "--quiet", "--retries", 0, "take", 1, timeout=30)
    assert "over its limit of 150" in done.stdout, done.stdout
    until(lambda: executors(worker) and executors(worker) != before, 10)
    assert lines(fleet("map", "--quiet", "fnc", 1, check=0)) == [1]


@pytest.mark.held
def test_copies_of_a_template_share_what_it_loaded(fleet, script):
    """Pages that a copy has in common with its template are not its own alone."""
    fleet.worker(2, script("big = bytearray(120 << 20)\n"
                           "for i in range(0, len(big), 4096): big[i] = 1\n"
                           "def f(i):\n    return big[i * 4096]\n"),
                 args=("--start", "fork", "--memory", 150))
    assert lines(fleet("map", "--quiet", "--retries", 0, "f", "0..99", check=0)) == [1] * 100
