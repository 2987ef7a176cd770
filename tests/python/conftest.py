"""The package of the build, and a fleet for each module of tests: all end with the tests."""
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("PEACH_BIN", ROOT / "build" / "release" / "bin")).parent
SLOW = float(os.environ.get("PEACH_SLOW", "1"))
os.environ["PEACH_BIN"] = str(BUILD / "bin")
os.environ.pop("PEACH_BROKER", None)
os.environ["XDG_CONFIG_HOME"] = "/nonexistent"  # nobody's configuration
# Executors are to find the package, too: a task may be a client.
os.environ["PYTHONPATH"] = str(BUILD / "python")
sys.path.insert(0, str(BUILD / "python"))

import peach  # noqa: E402
from peach import _fleet  # noqa: E402


def new_client(slots, preloads=()):
    return _fleet.start(slots, [str(p) for p in preloads], timeout=60 * SLOW)


@pytest.fixture(scope="module")
def client():
    with new_client(2) as made:
        yield made


@pytest.fixture
def make_client():
    made = []

    def make(slots, preloads=()):
        made.append(new_client(slots, preloads))
        return made[-1]

    yield make
    for one in made:
        one.close()
