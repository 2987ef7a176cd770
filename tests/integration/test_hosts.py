"""The programs on hosts of their own (hosts.py)."""
import json
import signal
import subprocess
import threading
import time
import zlib

import pytest
from conftest import BIN, EXAMPLES, FULL, SLOW, until
from hosts import Network, NoNamespaces

MULTIP = EXAMPLES / "multip.py"
PORT = 5001


@pytest.fixture
def network():
    try:
        network = Network(["broker", "early", "late", "client"])
    except NoNamespaces as error:
        pytest.skip(str(error))
    yield network
    network.close()


def test_workers_on_two_hosts_serve_a_client_on_a_third(network):
    endpoint = f"tcp://10.99.0.1:{PORT}"
    worker = ("peach-worker", "--connect", endpoint, "--slots", "2", "-l", MULTIP)
    network.start(1, *worker)  # before there is a broker
    network.start(0, "peach-broker", "--bind", f"tcp://0.0.0.0:{PORT}")
    network.start(2, *worker)

    def hosts():
        done = network.run(3, "workers", "--connect", endpoint, "--json")
        return {w["host"] for w in json.loads(done.stdout or "[]") if w["state"] == "ready"}

    until(lambda: hosts() == {"early", "late"}, 20)
    done = network.run(3, "map", "--connect", endpoint, "fnc", "0..999")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(i) for i in range(1000)]
    table = network.run(3, "workers", "--connect", endpoint).stdout
    assert "early" in table and "late" in table
    done = json.loads(network.run(3, "workers", "--connect", endpoint, "--json").stdout)
    assert all(w["done"] > 0 for w in done)


SKLEARN = """
import sys
sys.path.insert(0, sys.argv[1])
import joblib, numpy, peach, peach.joblib
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.inspection import permutation_importance
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

client = peach.connect(sys.argv[2])
peach.joblib.register(client)
x, y = load_digits(return_X_y=True)
x, y = x[:500], y[:500]

def numbers():
    grid = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.001, 0.01]}, n_jobs=-1).fit(x, y)
    forest = RandomForestClassifier(20, random_state=0, n_jobs=-1).fit(x, y)
    importance = permutation_importance(forest, x[:50], y[:50], n_repeats=2, random_state=0,
                                        n_jobs=-1)
    return [grid.cv_results_["mean_test_score"], cross_val_score(SVC(), x, y, n_jobs=-1),
            forest.predict_proba(x), importance.importances_mean]

with joblib.parallel_backend("threading"):
    want = numbers()
with joblib.parallel_backend("peach"):
    got = numbers()
assert all((a == b).all() for a, b in zip(want, got))
print(sorted({w["host"] for w in client.status()["workers"] if w["done"] > 0}))
"""


def test_sklearn_has_the_same_numbers_on_two_hosts(network, script):
    """The hosts need no package peach: all that they run goes by value."""
    path = script(SKLEARN, "search.py")
    endpoint = f"tcp://10.99.0.1:{PORT}"
    network.start(0, "peach-broker", "--bind", f"tcp://0.0.0.0:{PORT}")
    for host in (1, 2):
        network.start(host, "peach-worker", "--connect", endpoint, "--slots", "2")
    until(lambda: len(json.loads(network.run(3, "workers", "--connect", endpoint,
                                             "--json").stdout or "[]")) == 2, 20)
    done = network.run(3, path, BIN.parent / "python", endpoint, program="/usr/bin/python3")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['early', 'late']\n"


def test_everything_dies_in_turn_during_one_map(network, script):
    """kill -9 of every worker, then of the broker, then every host's link is cut for longer
    than a session lasts: complete and exact."""
    count = 200000 if FULL else 30000
    preload = script("import time, zlib\n"
                     "def job(x):\n"
                     f"    time.sleep({80 / count})\n"
                     "    return zlib.crc32(str(x).encode())\n", "job.py")
    endpoint = f"tcp://10.99.0.1:{PORT}"
    broker_args = (0, "peach-broker", "--bind", f"tcp://0.0.0.0:{PORT}",
                   "--session-timeout", "2")
    worker_args = ("peach-worker", "--connect", endpoint, "--slots", "2", "-l", preload)
    broker = network.start(*broker_args)
    workers = {host: network.start(host, *worker_args) for host in (1, 2)}
    result = {}

    def run():
        result["done"] = subprocess.run(
            [*network.prefix(3), str(BIN / "peach"), "map", "--quiet", "--connect", endpoint, "job",
             f"0..{count - 1}"], capture_output=True, text=True, timeout=400 * SLOW,
            stdin=subprocess.DEVNULL)

    client = threading.Thread(target=run)
    client.start()

    def kill(process):
        # The program, not the ip and sh in front of it: they are one process by exec.
        process.signal(signal.SIGKILL)
        process.wait()

    time.sleep(3)
    for host in (1, 2):
        kill(workers[host])
        workers[host] = network.start(host, *worker_args)
        time.sleep(1.5)
    kill(broker)
    broker = network.start(*broker_args)
    time.sleep(1.5)
    for host in (1, 2, 3, 0):
        assert client.is_alive(), result
        network.link(host, up=False)
        time.sleep(3)
        network.link(host, up=True)
        time.sleep(0.5)
    client.join()

    done = result["done"]
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(zlib.crc32(str(i).encode())) for i in range(count)]
