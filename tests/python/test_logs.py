"""What tasks print and log reaches who asked for it, line by line."""
import ctypes
import logging
import os
import sys
import warnings

import cloudpickle
import pytest

import peach

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def talk(x):
    print("one", x)
    print("two ", end="")
    print(x)
    os.write(2, b"raw %d\n" % x)
    ctypes.CDLL(None).printf(b"from C %d\n", x)
    logging.warning("logged %d", x)
    return x


@pytest.mark.parametrize("chunk", [None, 4])
def test_lines_come_whole_with_their_item(client, chunk):
    told = []
    got = client.options(logs=lambda *line: told.append(line), chunk=chunk).map(talk, range(20))
    assert got == list(range(20))
    lines = {}
    for item, host, pid, slot, text in told:
        assert host == os.uname().nodename and pid > 0 and slot in (0, 1)
        lines.setdefault(item, []).append(text)
    for x in range(20):
        assert lines[x][:4] == [f"one {x}", f"two {x}", f"raw {x}", f"from C {x}"]
        assert lines[x][4].endswith(f"logged {x}")


def test_the_last_words_of_a_process_come_too(client):
    told = []
    with pytest.raises(peach.TaskLost):
        client.map(lambda x: (print("last words", end="", flush=True), os._exit(1)), [0],
                   retries=0, logs=lambda *line: told.append(line[4]))
    assert told == ["last words"]


@pytest.mark.alone
def test_lines_come_while_the_task_runs(client):
    import time
    told = []

    def slow(x):
        print("begun", flush=True)
        time.sleep(1)

    client.map(slow, [0], logs=lambda *line: told.append(time.monotonic()))
    assert time.monotonic() - told[0] > 0.7


def test_gigabytes_are_cut_off(client):
    told = []

    def chatter(x):
        line = "x" * 1000
        for _ in range(20_000):
            print(line)
        return "done"

    assert client.map(chatter, [0], logs=lambda *line: told.append(line[4])) == ["done"]
    assert sum(map(len, told)) < 1.1 * (1 << 20) and "the rest is lost" in told[-1]


def test_nobody_else_hears_it(client):
    told, other = [], []
    client.map(print, ["mine"], logs=lambda *line: told.append(line[4]))
    client.map(print, ["nobody's"])
    client.map(print, ["other"], logs=lambda *line: other.append(line[4]))
    assert told == ["mine"] and other == ["other"]


def test_by_default_on_standard_error_and_each_warning_once(client, capfd):
    def warn(x):
        warnings.warn("mind the gap")
        print("said", x)

    client.map(warn, range(8), logs=True, chunk=1)
    said = capfd.readouterr().err
    assert said.count("UserWarning: mind the gap") == 1
    assert all(f"item {x}] said {x}\n" in said for x in range(8))


def test_futures_and_streams_have_logs_too(client):
    told = []
    client = client.options(logs=lambda *line: told.append(line[4]))
    client.submit(print, "future").result(20)
    assert list(client.imap(print, ["stream"])) == [None]
    assert told == ["future", "stream"]


def test_other_versions_of_packages_are_warned_of(client, monkeypatch):
    import numpy as np

    def f(x):
        return np.sum(x)

    # As a worker with another numpy would find it.
    needs = {"packages": {"numpy": "0.1"}, "python": ".".join(map(str, sys.version_info[:3]))}
    monkeypatch.setattr(peach._functions, "needs_of", lambda function: __import__("json").dumps(needs))
    with pytest.warns(RuntimeWarning, match=f"numpy is 0.1 at the client and {np.__version__} on"):
        assert client.map(f, [[1, 2]]) == [3]
    needs["python"] = "2.7.18"
    with pytest.raises(RuntimeError, match="sent by Python 2.7.18.*preload"):
        client.map(lambda x: np.max(x), [[1, 2]])


def test_a_function_says_what_it_needs():
    import json

    import numpy as np
    needs = json.loads(peach._functions.needs_of(lambda x: np.sum(x)))
    assert needs["python"].startswith("3.")
    space = {"np": np}
    exec("def g(x): return np.sum(x)", space)
    assert json.loads(peach._functions.needs_of(space["g"]))["packages"] == {
        "numpy": np.__version__}
