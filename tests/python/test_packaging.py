"""pip install of the checkout, and of the source distribution that it makes."""
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCRIPT = """
import sys, peach
client = peach.init(2)
print(peach.peach(lambda x: x * x, range(5)))
assert peach.__file__.startswith(sys.prefix)
assert client.call(lambda: __import__("sys").prefix) == sys.prefix
"""
JOINING = """
import os, signal, sys, peach
from peach._local import LocalFleet
os.environ["PEACH_BROKER"] = LocalFleet().endpoint
client = peach.init(1)
try:
    assert client.call(lambda: __import__("sys").prefix) == sys.prefix
    assert "PEACH_BIN" not in os.environ
finally:
    os.kill(client.status()["workers"][0]["pid"], signal.SIGTERM)
"""


def run(*args, **more):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=600,
                          **more)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.skipif("LD_PRELOAD" in os.environ, reason="builds with the user's own options")
def test_pip_install_and_the_source_distribution(tmp_path):
    """What a user's first minute is: a wheel with programs, in a virtual environment."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns("build", ".git", "__pycache__",
                                                              "*.egg-info"))
    python = tmp_path / "venv" / "bin" / "python"
    run("/usr/bin/python3", "-m", "venv", "--system-site-packages", tmp_path / "venv")
    run(python, "setup.py", "-q", "sdist", "-d", tmp_path, cwd=tree / "client" / "python")
    archive, = tmp_path.glob("peach-*.tar.gz")
    run(python, "-m", "pip", "install", "-q", "--no-build-isolation", "--no-deps", archive)
    env = {k: v for k, v in os.environ.items() if k not in ("PEACH_BIN", "PYTHONPATH")}
    assert run(python, "-c", SCRIPT, cwd=tmp_path, env=env) == "[0, 1, 4, 9, 16]\n"
    # A fleet that is there gets its workers from here, too.
    run(python, "-c", JOINING, cwd=tmp_path, env={**env, "XDG_STATE_HOME": str(tmp_path)})
    command = python.with_name("peach")
    assert run(command, "run", "-n", "1", "--source", "lambda x: x + 1", "1", env=env) == "2\n"


def test_the_script_in_readme_runs(tmp_path):
    text = (ROOT / "README.md").read_text().split("**From Python**")[1]
    block = text.split("pip install ./client/python\n")[1].split("\nFunctions go by value")[0]
    script = "\n".join(line[4:] for line in block.splitlines())
    assert 8 <= len([line for line in script.splitlines() if line.strip()]) <= 10
    last = run("/usr/bin/python3", "-c", script + "\nprint(error[-1])", cwd=tmp_path,
               env={**os.environ})
    assert float(last) < 0.01
