"""What import peach brings with it."""
import os
import subprocess
import sys

import pytest


def run(code, **env):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120,
                          env={**os.environ, **env})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize("use", [
    "peach.aio.connect()", "peach.tsfresh.Distributor()", "peach.joblib.register()",
    "peach.fresh.create_features", "peach.xval.xv.kf_strat"])
def test_import_peach_is_enough_for_its_modules(use):
    """operations.N10: README's lines were AttributeErrors."""
    run(f"import peach\n{use}")


def test_modules_are_imported_when_they_are_used():
    """operations.N10"""
    assert run("import peach, sys; print(all(name in dir(peach) for name in ('aio', 'joblib')),"
               "any('joblib' in name or 'asyncio' in name for name in sys.modules))"
               ) == "True False"


def test_a_module_that_cannot_be_imported_says_what_it_needs():
    """operations.N10"""
    assert run("""
import sys
sys.modules["joblib"] = None
import peach
assert not hasattr(peach, "joblib") and not hasattr(peach, "nonsense")
try:
    peach.joblib
except AttributeError as error:
    print(error)
""").startswith("peach.joblib cannot be imported: ")
