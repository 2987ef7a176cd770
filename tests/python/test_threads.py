"""Threads that begin together, each the first to use something."""
import os
import pathlib
import subprocess
import sys

import pytest

RUNS = 12 if os.environ.get("PEACH_FULL") else 4


def run(code, endpoint, **env):
    """In a fresh process: nothing was imported or made yet."""
    done = subprocess.run([sys.executable, "-c", code, endpoint], capture_output=True, text=True,
                          timeout=60, env={**os.environ, **env})
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


TOGETHER = """
import sys, threading
sys.setswitchinterval(1e-5)
import peach
client = peach.connect(sys.argv[1], 20)
wrong = []
start = threading.Barrier(16)

def work(k):
    start.wait()
    try:
        result = use(k)
    except BaseException as error:
        result = error
    if result != expected(k):
        wrong.append(repr(result))

{uses}
threads = [threading.Thread(target=work, args=(k,)) for k in range(16)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not wrong, wrong
"""

USES = {
    "map": """
def use(k): return client.map(lambda x: x + k, range(10))
def expected(k): return list(range(k, k + 10))
""",
    "submit": """
class Here: pass
def use(k): return client.submit(lambda x, here: (x, type(here).__name__), k, Here()).result(20)
def expected(k): return (k, "Here")
""",
    "modules": """
def use(k): return [type(getattr(peach, n)).__name__ for n in ("aio", "tsfresh", "joblib")]
def expected(k): return ["module"] * 3
""",
    "import": """
def use(k):
    if k == 0:
        import cloudpickle
    while "cloudpickle" not in sys.modules:
        pass
    return client.map(lambda x: x + k, range(10))
def expected(k): return list(range(k, k + 10))
""",
    "default": """
import os
client.close()
os.environ["PEACH_BROKER"] = sys.argv[1]
clients = set()
def use(k):
    clients.add(peach.current())
    return peach.peach(abs, [-k]) + [len(clients)]
def expected(k): return [k, 1]
""",
}


@pytest.mark.parametrize("use", USES)
def test_threads_may_be_the_first_together(client, use):
    """worker.A5: the first use of cloudpickle by several threads; and other first uses."""
    endpoint = client.status()["endpoint"]
    for _ in range(RUNS):
        run(TOGETHER.format(uses=USES[use]), endpoint)


def test_a_slow_import_of_cloudpickle_is_waited_for(client, tmp_path):
    """worker.A5, made certain: one thread imports it while the others ask what it registered."""
    import cloudpickle

    real = pathlib.Path(cloudpickle.__file__).parent
    package = tmp_path / "cloudpickle"
    package.mkdir()
    for path in real.glob("*.py"):
        (package / path.name).write_text(path.read_text())
    init = package / "__init__.py"
    init.write_text(f"import time\ntime.sleep(0.3)\n{init.read_text()}")
    run(TOGETHER.format(uses=USES["import"]), client.status()["endpoint"],
        PYTHONPATH=f"{tmp_path}:{os.environ['PYTHONPATH']}")
