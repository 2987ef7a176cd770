"""Ten ways to go wrong: a clear error at the client, and nothing else is hurt."""
import importlib.util
import os
import pathlib
import pickle
import sys
import threading

import cloudpickle
import numpy as np
import pytest

import peach

cloudpickle.register_pickle_by_value(sys.modules[__name__])


@pytest.fixture(autouse=True)
def unhurt(client):
    """Whatever a test did, the fleet is as it was."""
    pids = {client.call(os.getpid) for _ in range(1)}
    yield
    assert client.map(lambda x: x + 1, range(20)) == list(range(1, 21))
    assert pids


def test_an_argument_that_cannot_be_pickled(client):
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock' object"):
        client.call(abs, threading.Lock())
    future = client.submit(abs, threading.Lock())
    with pytest.raises(TypeError, match="cannot pickle"):
        future.result(20)
    with pytest.raises(TypeError, match="cannot pickle"):
        client.map(abs, [1, threading.Lock()])


def test_a_result_that_cannot_be_pickled(client):
    with pytest.raises(TypeError, match="cannot pickle '_thread.lock' object"):
        client.call(lambda: __import__("threading").Lock())


def test_a_generator_as_a_result(client):
    with pytest.raises(TypeError, match="cannot pickle 'generator' object"):
        client.call(lambda: (x for x in range(3)))


def test_an_exception_that_cannot_be_pickled(client):
    def fail():
        import threading
        error = ValueError("with a lock")
        error.lock = threading.Lock()
        raise error

    with pytest.raises(peach.RemoteError, match="with a lock") as caught:
        client.call(fail)
    assert caught.value.type == "ValueError" and caught.value.pid > 0


ODD_TEXTS = {
    "a NUL": ("left\0right", "left\\x00right"),
    "a lone surrogate": ("left\ud800right", "left\\ud800right"),
    "both": ("\udcff\0", "\\udcff\\x00"),
    "a text": ("left \u20ac right", "left \u20ac right"),
}


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_an_exception_keeps_what_its_text_cannot_send(client, text):
    """worker.C4: type, message and traceback were lost."""
    raw, told = ODD_TEXTS[text]

    def fail(sendable):
        error = ValueError(raw)
        if not sendable:
            error.lock = __import__("threading").Lock()
        raise error

    with pytest.raises(ValueError) as caught:
        client.call(fail, True)
    assert caught.value.args == (raw,) and "in fail" in str(caught.value.__cause__)
    with pytest.raises(peach.RemoteError) as caught:
        client.call(fail, False)
    assert caught.value.type == "ValueError" and caught.value.message == told
    assert "in fail" in caught.value.traceback and told in caught.value.traceback


def odd(how):
    """An exception that makes it hard to tell of it; its lock keeps it from being sent."""
    import threading

    class Shy(type):
        def __getattribute__(cls, name):
            return 1 / 0 if name in ("__qualname__", "__module__") else super().__getattribute__(name)

    made = {
        "str exits": lambda: type("Odd", (Exception,), {"__str__": lambda self: sys.exit(3)}),
        "str interrupts": lambda: type("Odd", (Exception,), {
            "__str__": lambda self: exec("raise KeyboardInterrupt")}),
        "str gives no text": lambda: type("Odd", (Exception,), {"__str__": lambda self: 5}),
        "no module": lambda: type("Odd", (Exception,), {"__module__": None}),
        "module is a number": lambda: type("Odd", (Exception,), {"__module__": 5}),
        "surrogate in its name": lambda: type("Odd", (Exception,), {"__qualname__": "Odd\ud800"}),
        "NUL in its name": lambda: type("Odd", (Exception,), {"__qualname__": "Odd\0"}),
        "long name": lambda: type("Odd", (Exception,), {"__qualname__": "Odd\u20ac" * 300}),
        "odd metaclass": lambda: Shy("Odd", (Exception,), {}),
        "odd traceback": lambda: type("Odd", (Exception,), {"__traceback__": 5}),
        "odd notes": lambda: type("Odd", (Exception,), {"__notes__": 5}),
    }[how]()("what happened")
    made.lock = threading.Lock()
    return made


@pytest.mark.parametrize("how", [
    "str exits", "str interrupts", "str gives no text", "no module", "module is a number",
    "surrogate in its name", "NUL in its name", "long name", "odd metaclass", "odd traceback",
    "odd notes"])
def test_an_odd_exception_is_told_of_with_its_traceback(client, how):
    """worker.C4: "an exception that cannot be described", without type, message or traceback."""
    def fail():
        raise odd(how)

    with pytest.raises(peach.RemoteError) as caught:
        client.call(fail)
    assert "Odd" in caught.value.type and "in fail" in caught.value.traceback
    assert ("str() of the exception" if how.startswith("str") else "what happened"
            ) in caught.value.message


class Unlucky:
    """Cannot be unpickled, and what it raises has no text."""

    def __reduce__(self):
        return raise_textless, ()


def raise_textless():
    raise type("Odd", (Exception,), {"__str__": lambda self: 1 / 0, "__repr__": lambda self: 1 / 0})


def test_a_result_that_fails_oddly_hurts_no_other_call(client):
    """worker.C4's kind, at the client: the thread of all futures ended with it."""
    future = client.submit(Unlucky)
    with pytest.raises(peach.RemoteError, match=r"repr\(\) of Odd raised ZeroDivisionError"):
        future.result(20)
    assert client.submit(abs, -1).result(20) == 1


def test_endless_recursion(client):
    def down(n):
        return down(n + 1)

    with pytest.raises(RecursionError):
        client.call(down, 0)
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises((RecursionError, pickle.PicklingError), match="recursion"):
        client.call(len, deep)


@pytest.mark.parametrize("kind", ["KeyboardInterrupt", "SystemExit", "BaseException"])
def test_exits_are_the_task_s_and_not_the_client_s(client, kind):
    def leave():
        raise getattr(__import__("builtins"), kind)("bye")

    with pytest.raises(peach.RemoteError, match="bye") as caught:
        client.call(leave)
    assert caught.value.type == kind


def test_a_module_that_only_the_client_has(client, tmp_path):
    (tmp_path / "only_here.py").write_text("def f(x): return x\n")
    spec = importlib.util.spec_from_file_location("only_here", tmp_path / "only_here.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["only_here"] = module
    spec.loader.exec_module(module)
    try:
        with pytest.raises(ModuleNotFoundError, match="only_here.*preload"):
            client.call(module.f, 1)
        cloudpickle.register_pickle_by_value(module)
        assert client.call(module.f, 1) == 1
    finally:
        cloudpickle.unregister_pickle_by_value(module)
        del sys.modules["only_here"]


def test_an_array_of_objects(client):
    array = np.array([1, "a", (2,)], dtype=object)
    assert list(client.call(lambda a: a[::-1], array)) == [(2,), "a", 1]
    with pytest.raises(TypeError, match="cannot pickle"):
        client.call(len, np.array([threading.Lock()], dtype=object))


def test_a_result_over_the_limit(client):
    size = (3 << 30) if os.environ.get("PEACH_FULL") else 300 << 20

    def large():
        return bytes(size)

    with pytest.raises(peach.LimitError, match="limit"):
        client.call(large)


def test_an_argument_over_the_limit(client):
    with pytest.raises(peach.LimitError, match="max-payload"):
        client.call(len, bytes(300 << 20))


class Liar:
    """Its pickle is of something else, or of nothing."""

    def __init__(self, how):
        self.how = how

    def __reduce__(self):
        if self.how == "wrong":
            return int, ("not a number",)
        if self.how == "raises":
            raise LookupError("no pickle for you")
        return 17


@pytest.mark.parametrize("how, error, text", [
    ("wrong", ValueError, "invalid literal"), ("raises", LookupError, "no pickle for you"),
    ("odd", Exception, "__reduce__ must return a string or tuple")])
def test_a_class_that_lies_about_its_pickle(client, how, error, text):
    with pytest.raises(error, match=text):
        client.call(lambda x: 1, Liar(how))
    with pytest.raises((error, peach.RemoteError), match=text):
        client.call(lambda: Liar(how))


def test_what_is_no_function(client):
    with pytest.raises(TypeError, match="neither a function nor the name"):
        client.map(3, [1])
    with pytest.raises(peach.NoFunction, match="no_such_function"):
        client.map("no_such_function", [1])
    with pytest.raises(TypeError, match="needs items"):
        client.map(abs)


def test_a_worker_that_takes_no_code(tmp_path):
    import socket
    import subprocess

    script = tmp_path / "script.py"
    script.write_text("def f(x): return x\n")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{s.getsockname()[1]}"
    binary = pathlib.Path(os.environ["PEACH_BIN"])
    broker = subprocess.Popen([binary / "peach-broker", "--bind", endpoint])
    worker = subprocess.Popen([binary / "peach-worker", "--connect", endpoint, "--no-push", "-l",
                               script, "--slots", "1"])
    try:
        with peach.connect(endpoint, 10) as c:
            while not any(w["state"] == "ready" for w in c.status()["workers"]):
                pass
            assert c.map("f", [1, "a", [1.5]]) == [1, "a", [1.5]]
            with pytest.raises(peach.NoFunction, match="no-push"):
                c.map(lambda x: x, [1])
            with pytest.raises(PermissionError, match="no-push"):
                c.call("f", (1, 2))
    finally:
        for process in (worker, broker):
            process.terminate()
            process.wait(20)


def test_a_large_closure_goes_to_a_host_once():
    """50 MB in a closure, 1,000 items: the bytes that reach the worker are counted."""
    spec = importlib.util.spec_from_file_location(
        "fleets", pathlib.Path(__file__).parents[1] / "integration" / "programs.py")
    fleets = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fleets)
    os.environ["PEACH_SHARED_MEMORY"] = "0"  # as between hosts
    fleet = fleets.Fleet()
    proxy = fleets.Proxy(fleet.endpoint)
    try:
        fleet.start("peach-worker", "--slots", 2, "--connect", proxy.endpoint)
        array = np.random.default_rng(0).random(6_250_000)
        with peach.connect(fleet.endpoint) as c:
            assert c.map(lambda i: array[i], range(1000)) == list(array[:1000])
        assert array.nbytes < proxy.bytes < 1.1 * array.nbytes
    finally:
        proxy.close()
        fleet.stop()
        del os.environ["PEACH_SHARED_MEMORY"]
