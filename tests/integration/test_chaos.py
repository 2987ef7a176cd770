"""tests/chaos is run by .ci/run, and by whoever looks for faults."""
import os
import subprocess
import sys

from conftest import HERE, SLOW

CHAOS = HERE.parent / "chaos" / "chaos.py"


def test_chaos_needs_no_pytest(tmp_path):
    """reliability.R9: it imported the fixtures, and with them pytest."""
    (tmp_path / "pytest.py").write_text("raise ImportError('there is no pytest')")
    done = subprocess.run([sys.executable, CHAOS, "--help"], capture_output=True, text=True,
                          timeout=30 * SLOW, env={**os.environ, "PYTHONPATH": str(tmp_path)})
    assert done.returncode == 0 and "--seed" in done.stdout, done.stderr
