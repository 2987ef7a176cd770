"""pip install of the checkout, and of the source distribution that it makes."""
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap

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


TOOLBOX = [ROOT / "tests" / "toolbox", "build", "python", "--"]
needs_own_options = pytest.mark.skipif("LD_PRELOAD" in os.environ,
                                       reason="builds with the user's own options")


def run(*args, status=0, **more):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=600,
                          **more)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if status == 0 else done.stderr


@pytest.fixture
def package(tmp_path):
    """client/python of a checkout in which nothing is built."""
    tree = tmp_path / "tree"
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(
        "build", ".git", "__pycache__", "*.egg-info", "_peach.so", "programs"))
    return tree / "client" / "python"


@needs_own_options
def test_pip_install_and_the_source_distribution(package, tmp_path):
    """What a user's first minute is: a wheel with programs, in a virtual environment. With no
    tool but what deploy/packages brings (operations.N1) and, as README says, without a network
    (operations.N9)."""
    python = tmp_path / "venv" / "bin" / "python"
    run("/usr/bin/python3", "-m", "venv", "--system-site-packages", tmp_path / "venv")
    run(python, "setup.py", "-q", "sdist", "-d", tmp_path, cwd=package)
    archive, = tmp_path.glob("peach-*.tar.gz")
    run(*TOOLBOX, python, "-m", "pip", "install", "-q", "--no-index", "--no-build-isolation",
        archive)
    env = {k: v for k, v in os.environ.items() if k not in ("PEACH_BIN", "PYTHONPATH")}
    assert run(python, "-c", SCRIPT, cwd=tmp_path, env=env) == "[0, 1, 4, 9, 16]\n"
    # A fleet that is there gets its workers from here, too.
    run(python, "-c", JOINING, cwd=tmp_path, env={**env, "XDG_STATE_HOME": str(tmp_path)})
    for command in [python.with_name("peach")], [python, "-m", "peach"]:
        assert run(*command, "run", "-n", "1", "--source", "lambda x: x + 1", "1", cwd=tmp_path,
                   env=env) == "2\n"


def test_what_an_editable_installation_leaves_does_not_get_into_the_build(package, tmp_path):
    for name in "_peach.so", "programs/bin/peach":
        (package / "peach" / name).parent.mkdir(parents=True, exist_ok=True)
        (package / "peach" / name).write_text("of another build")
    run("cmake", "-S", package.parents[1], "-B", tmp_path / "build", "-G", "Ninja",
        "-DPEACH_TESTS=OFF")
    run("cmake", "--build", tmp_path / "build", "--target", "python-package")
    made = {path.name for path in (tmp_path / "build" / "python" / "peach").iterdir()}
    assert "__init__.py" in made and not {"_peach.so", "programs"} & made


@needs_own_options
def test_a_failed_attempt_does_not_stand_in_the_way_of_the_next(package, tmp_path):
    """operations.N1: what CMake had kept of it made it fail again, also with all installed."""
    build = [sys.executable, "setup.py", "-q", "build", "-b", tmp_path / "build", "-t",
             tmp_path / "temp"]
    cache = tmp_path / "temp" / "cmake" / "CMakeCache.txt"
    cache.parent.mkdir(parents=True)
    cache.write_text("CMAKE_GENERATOR:INTERNAL=Unix Makefiles\n"
                     "CMAKE_HOME_DIRECTORY:INTERNAL=/nowhere\n")
    run(*build, cwd=package)
    assert list((tmp_path / "build").glob("lib*/peach/_peach.so"))


def test_what_pip_lacks_is_one_sentence_with_its_packages(package, tmp_path):
    """"What who knows the others will miss" in operations: it was a trace of 100 lines."""
    build = [sys.executable, "setup.py", "-q", "build", "-b", tmp_path / "build", "-t",
             tmp_path / "temp"]
    empty = tmp_path / "empty"
    empty.mkdir()
    for name in "bash", "sort":
        (empty / name).symlink_to(shutil.which(name))

    def told(**env):
        text = run(*build, status=1, cwd=package, env={**os.environ, **env})
        assert "Traceback" not in text
        return text[text.index("error: "):]

    text = told(PATH=str(empty))
    for word in "no cmake", "ninja-build", "gcc", "apt-get install", "libzmq3-dev":
        assert word in text
    assert len(text.splitlines()) == 2
    text = told(PKG_CONFIG_LIBDIR=str(empty), PKG_CONFIG_PATH="")
    assert "libzmq>=4.3: apt-get install libzmq3-dev" in text and len(text.splitlines()) <= 20
    assert not (tmp_path / "temp" / "cmake").exists()


def test_the_script_in_readme_runs(tmp_path):
    text = (ROOT / "README.md").read_text().split("**From Python**")[1]
    block = text[text.index("    import numpy"):].split("\nFunctions go by value")[0]
    script = textwrap.dedent(block)
    assert 8 <= len([line for line in script.splitlines() if line.strip()]) <= 10
    last = run("/usr/bin/python3", "-c", script + "\nprint(error[-1])", cwd=tmp_path,
               env={**os.environ})
    assert float(last) < 0.01
