"""libpeach from C: the cmocka program client_test against a real fleet."""
import os
import subprocess

from conftest import BIN, HERE, SLOW


def test_the_c_interface_keeps_its_promises(fleet, script, tmp_path):
    slow = script("import time\ntime.sleep(1)\ndef slow(x):\n    return 2 * x\n", "slow.py")
    broken = script("raise RuntimeError('on purpose')\n", "broken.py")
    # It starts its workers itself, with the programs of this build.
    env = {**os.environ, **fleet.env, "PATH": f"{BIN}:{os.environ['PATH']}",
           "XDG_STATE_HOME": str(tmp_path)}
    done = subprocess.run([str(BIN.parent / "tests" / "client_test"), str(HERE / "tasks.py"),
                           str(slow), str(broken)], env=env, capture_output=True, text=True,
                          timeout=120 * SLOW)
    assert done.returncode == 0, done.stdout + done.stderr
