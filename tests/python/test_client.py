"""The client: functions by name and by value, values both ways, jobs and their ends."""
import enum
import math
import os
import sys
import threading
import time

import cloudpickle
import numpy as np
import pytest

import peach

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the fleet does not have it

SCRIPT = """
import time
def square(x): return x * x
def nap(s): time.sleep(s); return s
def kind(x): return type(x).__name__
def both(a, b=0): return [a, b]
"""


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    from conftest import new_client
    script = tmp_path_factory.mktemp("preload") / "script.py"
    script.write_text(SCRIPT)
    with new_client(2, [script]) as made:
        yield made


class Point:
    def __init__(self, x):
        self.x = x

    def __eq__(self, other):
        return type(other) is Point and other.x == self.x


class Colour(enum.Enum):
    RED = 1


def test_a_map_is_in_order(client):
    assert client.map(lambda x: x * x, range(1000)) == [x * x for x in range(1000)]
    assert client.map(lambda x: x, []) == []
    assert client.map(math.sqrt, [1.0, 4.0]) == [1.0, 2.0]


def test_several_iterables_stop_with_the_shortest(client):
    assert client.map(lambda a, b: (a, b), range(3), "abcd") == [(0, "a"), (1, "b"), (2, "c")]
    assert client.starmap(pow, [(2, 3), (3, 2)]) == [8, 9]


@pytest.mark.parametrize("value", [
    None, True, 1, -2**63, 2**200, 1.5, float("inf"), "text", "\ud800", b"bytes", bytearray(b"ab"),
    (1, 2), [1, [2, (3,)]], {"a": 1}, {1: 2}, {1, 2}, frozenset([1]), range(3), slice(1, 2),
    Point(3), Colour.RED, 1j, np.float64(2.5), np.int32(7), [], (), {}, "", b"", [None] * 3,
    np.datetime64("2020-01-01"), Ellipsis, int, {"deep": [{"er": (1, {2: 3})}]},
])
def test_values_come_back_as_what_they_are(client, value):
    back = client.call(lambda x: x, value)
    assert back == value and type(back) is type(value)
    back, = client.map(lambda x: x, [value])
    assert back == value and type(back) is type(value)


@pytest.mark.parametrize("array", [
    np.arange(5), np.arange(6.).reshape(2, 3), np.zeros((0, 3)), np.array(3.5),
    np.arange(6).reshape(2, 3).T, np.asfortranarray(np.ones((30, 40))), np.arange(10)[::2],
    np.array(["a", "bc"]), np.array([1, "a"], dtype=object), np.array([True]), np.ones(3, "c16"),
    np.arange(100000, dtype="f4"), np.ma.masked_array([1, 2], [True, False]),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), np.array(["2020-01-01"], "M8[D]"),
])
def test_arrays_come_back_as_what_they_are(client, array):
    back = client.call(lambda x: x, array)
    assert type(back) is type(array) and back.dtype == array.dtype and back.shape == array.shape
    assert (back == array).all()
    back[...] = back  # it is one's own


def test_large_arrays_are_not_copied_on_their_way_in(client):
    array = np.arange(1_000_000.)
    assert client.call(lambda x: type(x.base).__name__ != "NoneType" and x.sum(), array) == array.sum()
    assert client.call(lambda x: x.flags.writeable, client.put(array)) is False
    framed = {"a": array, "b": [array[:10]]}
    back = client.call(lambda x: x, framed)
    assert (back["a"] == array).all() and (back["b"][0] == array[:10]).all()


def test_items_of_a_uint64_array_are_its_numbers(client):
    """protocol.P3: from 2**63 on they reached the function as rounded floats."""
    items = np.array([1, 2**63 - 1, 2**63, 2**64 - 1], dtype=np.uint64)
    assert client.map(lambda x: x, items) == items.tolist()
    assert client.map(lambda x: type(x).__name__, items) == ["int"] * 4


def test_results_as_a_vector(client):
    assert (client.map(lambda x: x + 1, np.arange(1000), vector=True) == np.arange(1, 1001)).all()
    assert client.map(float, range(3), vector=True).dtype == np.float64
    assert client.map(str, range(3), vector=True) == ["0", "1", "2"]


def test_pandas(client):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": np.arange(50000.), "b": ["x", "y"] * 25000})
    pd.testing.assert_frame_equal(client.call(lambda x: x, frame), frame)
    total = client.map(lambda f, c: f[c].iloc[-1], [client.put(frame)] * 2, ["a", "b"])
    assert total == [49999.0, "y"]


def test_functions_mean_what_they_refer_to_now(client):
    space = {"__name__": "__main__"}
    exec("k = 1\ndef g(): return k\ndef f(x): return g() + x", space)
    assert client.call(space["f"], 10) == 11
    space["k"] = 2
    assert client.call(space["f"], 10) == 12
    assert client.submit(space["f"], 10).result() == 12
    exec("def g(): return 100", space)
    assert client.submit(space["f"], 10).result() == 110
    table = [1]

    def last(x):
        return table[-1] + x

    assert client.submit(last, 0).result() == 1
    table.append(5)
    assert client.submit(last, 0).result() == 5


def test_methods_partials_and_recursion(client):
    import functools

    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    assert client.map(Point(3).__eq__, [Point(3), Point(4)]) == [True, False]
    assert client.map(functools.partial(pow, 2), range(4)) == [1, 2, 4, 8]
    assert client.map(factorial, [5, 20]) == [120, math.factorial(20)]


def test_functions_of_a_preload_go_by_name(named):
    assert named.map("square", range(4)) == [0, 1, 4, 9]
    assert named.call("script.both", 1, b=(2,)) == [1, (2,)]
    assert named.map("kind", [(1,), [1], {"a": 1}, {1}, np.arange(2), 1]) == [
        "tuple", "list", "dict", "set", "ndarray", "int"]
    with pytest.raises(peach.NoFunction, match="cube"):
        named.map("cube", [1])


def test_a_failure_raises_as_itself_with_its_cause(client):
    def fail(x):
        if x == 3:
            raise KeyError("three")
        return x

    with pytest.raises(KeyError, match="three") as caught:
        client.map(fail, range(10))
    assert isinstance(caught.value.__cause__, peach.RemoteTraceback)
    assert "in fail" in str(caught.value.__cause__)
    kept = client.map(fail, range(5), return_exceptions=True)
    assert kept[:3] == [0, 1, 2] and isinstance(kept[3], KeyError) and kept[4] == 4
    stream = client.imap(fail, range(10))
    assert [next(stream) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(KeyError):
        next(stream)


def test_an_exception_that_cannot_be_sent_is_told_of(client):
    def fail():
        class Odd(Exception):
            def __init__(self, a, b):
                super().__init__(f"{a} and {b}")
        raise Odd(1, 2)

    with pytest.raises(peach.RemoteError, match="1 and 2") as caught:
        client.call(fail)
    assert "Odd" in caught.value.type and "in fail" in caught.value.traceback


def test_a_task_that_kills_its_process(client):
    with pytest.raises(peach.TaskLost) as caught:
        client.options(retries=1).map(lambda x: os._exit(7) if x == 2 else x, range(4))
    assert "code 7" in str(caught.value.attempts) and len(caught.value.attempts) == 2
    assert client.map(abs, [-1]) == [1]


def test_streams_have_no_end(client):
    def endless():
        n = 0
        while True:
            taken.append(n)
            yield n
            n += 1

    taken = []
    results = client.imap(lambda x: x * 2, endless())
    assert [next(results) for _ in range(100)] == [x * 2 for x in range(100)]
    results.close()
    assert len(taken) < 100_000
    assert sorted(client.imap_unordered(lambda x: x, range(50))) == list(range(50))


def test_futures(client):
    futures = [client.submit(lambda x, k=0: x + k, i, k=1) for i in range(100)]
    assert [f.result(20) for f in futures] == list(range(1, 101))
    ref = client.put([1, 2, 3])
    assert client.submit(sum, ref).result(20) == 6
    with pytest.raises(ZeroDivisionError):
        client.submit(lambda: 1 / 0).result(20)


def test_many_threads_use_one_client(client):
    wrong = []

    def work(k):
        for _ in range(5):
            if client.map(lambda x: x + k, range(200)) != [x + k for x in range(200)]:
                wrong.append(k)
            if client.submit(abs, -k).result(20) != k:
                wrong.append(k)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_options(client):
    a = client.options(seed=5).map(lambda _: __import__("random").random(), range(6))
    b = client.options(seed=5, chunk=3).map(lambda _: __import__("random").random(), range(6))
    assert a == b and len(set(a)) == 6
    with pytest.raises(peach.Timeout):
        client.options(timeout=0.2).call(time.sleep, 30)
    with pytest.raises(TypeError, match="retires"):
        client.options(retires=1)
    with pytest.raises(peach.Timeout, match="2 of 2"):
        client.map(time.sleep, [10, 10], wait=0.2)
    assert client.options(retries=0).call(abs, -1) == 1


@pytest.mark.parametrize("option, value", [
    ("chunk", 0), ("chunk", 1 << 21), ("retries", -1), ("retries", 1.5), ("priority", 8),
    ("weight", 0), ("weight", "7"), ("timeout", 0), ("timeout", -1), ("timeout", float("nan")),
    ("deadline", "soon"), ("queue_timeout", 0.0), ("logs", 3), ("require", "gpu"),
    ("require", ["gpu"])])
def test_an_option_out_of_its_range_is_named(client, option, value):
    with pytest.raises((ValueError, TypeError), match=f"{option[:7]}.*{value}"):
        client.options(**{option: value}).map(abs, [1])


def test_a_requirement_may_stand_alone(client):
    with pytest.raises(peach.PeachError, match="gpu=1"):
        client.options(require="gpu=1").map(abs, [1])


@pytest.mark.parametrize("slots", [-1, 1025, "4", 2.5])
def test_slots_out_of_range_are_named(client, slots):
    with pytest.raises(ValueError, match=f"slots {slots!r}"):
        client.init(slots)
    with pytest.raises(ValueError, match=f"slots {slots!r}"):
        peach.init(slots)


def test_progress(client):
    told = []
    client.map(lambda x: time.sleep(0.01), range(50), progress=lambda *x: told.append(x))
    assert told and told[-1][1] == 50


def test_values_that_were_put(client):
    ref = client.put({"a": np.arange(1000)})
    assert client.map(lambda d, i: int(d["a"][i]), [ref] * 3, [1, 2, 3]) == [1, 2, 3]
    assert client.put({"a": np.arange(1000)}) == ref
    with pytest.raises(TypeError, match="Ref"):
        client.call(lambda x: x, {(1, ref)})


def test_a_closed_client_says_so():
    from conftest import new_client
    made = new_client(1)
    results = made.imap(lambda x: x, iter(int, 1))
    assert next(results) == 0
    made.close()
    made.close()
    with pytest.raises(ValueError, match="closed"):
        made.map(abs, [1])
    assert "closed" in repr(made)


def test_no_broker_is_said_with_its_endpoint():
    with pytest.raises(peach.NoBroker, match="127.0.0.1:1"):
        peach.connect("tcp://127.0.0.1:1", timeout=0.2)


def test_a_forked_child_cannot_use_the_client(client):
    pid = os.fork()
    if pid == 0:
        try:
            client.map(abs, [1])
        except ValueError as error:
            os._exit(0 if "forked child" in str(error) else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    pid = os.fork()
    if pid == 0:
        client._fleet.stop()  # as its exit would: the fleet is not the child's
        os._exit(0)
    os.waitpid(pid, 0)
    assert client.map(abs, [-1]) == [1]


def test_init_grows_the_fleet(tmp_path):
    script = tmp_path / "more.py"
    script.write_text("def double(x): return 2 * x\n")
    one = peach.init(1)
    try:
        assert peach.init(2, [script]) is one and one.slots == 2
        assert peach.peach("double", range(3)) == [0, 2, 4]
        assert "2 slots" in repr(one) and "<table>" in one._repr_html_()
        with pytest.raises(peach.PreloadError, match="boom"):
            (tmp_path / "bad.py").write_text("raise RuntimeError('boom')")
            one.preload(tmp_path / "bad.py")
    finally:
        one.close()


def test_nothing_leaks(client):
    """Over 100,000 calls neither references nor memory grow."""
    import gc
    import sys

    def run(n):
        for _ in range(n):
            futures = [client.submit(abs, -i) for i in range(1000)]
            assert sum(f.result() for f in futures) == 499500
        assert client.map(abs, list(range(50_000)))[-1] == 49_999

    run(5)
    gc.collect()
    before, references = len(gc.get_objects()), sys.getrefcount(abs)
    allocated = sys.getallocatedblocks()
    run(50)
    gc.collect()
    assert len(gc.get_objects()) - before < 200
    assert abs(sys.getrefcount(abs) - references) < 20
    assert sys.getallocatedblocks() - allocated < 5000
