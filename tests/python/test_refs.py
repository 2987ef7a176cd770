"""Values that were put: a Ref stands for its client's value, and for nothing else."""
import asyncio
import gc

import numpy as np
import pytest

import peach
from conftest import new_client


@pytest.fixture(scope="module")
def other():
    """A client of a fleet of its own, which has put values under the same numbers."""
    with new_client(1) as made:
        made.kept = [made.put(f"value {i} of the other fleet") for i in range(3)]
        yield made


@pytest.fixture
def beside(client):
    """Another client of the same broker."""
    with peach.connect(client.status()["endpoint"]) as made:
        made.kept = [made.put(f"value {i} beside") for i in range(3)]
        yield made


USES = {
    "argument": lambda c, r: c.call(str, r),
    "keyword": lambda c, r: c.call(lambda x: x, x=r),
    "in a list": lambda c, r: c.call(lambda x: x, [1, r]),
    "in a dict": lambda c, r: c.call(lambda x: x, {"a": {"b": [r]}}),
    "by name": lambda c, r: c.map("no_such_function", [[r]]),
    "item": lambda c, r: c.map(str, [r]),
    "second item": lambda c, r: c.map(str, [1, r]),
    "of a generator": lambda c, r: c.map(str, iter([1, r])),
    "starmap": lambda c, r: c.starmap(max, [(1, r)]),
    "imap": lambda c, r: list(c.imap(str, [r])),
    "imap of an iterator": lambda c, r: list(c.imap(str, iter([r]))),
    "submit": lambda c, r: c.submit(str, r).result(20),
    "submit of a list": lambda c, r: c.submit(len, [r]).result(20),
    "submit with a keyword": lambda c, r: c.submit(lambda x: x, x=r).result(20),
    "options": lambda c, r: c.options(retries=0).call(str, r),
    "executor": lambda c, r: list(peach.Executor(client=c).map(str, [r])),
    "executor's submit": lambda c, r: peach.Executor(client=c).submit(str, r).result(20),
    "initialized": lambda c, r: peach.Executor(client=c, initializer=int).submit(str, r).result(20),
    "pool": lambda c, r: peach.Pool(client=c).map(str, [r]),
    "asyncio": lambda c, r: asyncio.run(call_later(c, r)),
    "code": lambda c, r: c._session.job("f", r, [1]),
}


async def call_later(client, ref):
    import peach.aio

    return await peach.aio.AsyncClient(client).call(str, ref)


@pytest.mark.parametrize("use", USES)
def test_a_ref_of_another_client_is_an_error(client, other, beside, use):
    """worker.A2, python.Y7: it stood for the value that this client had put under its number."""
    mine = [client.put(f"mine {i}") for i in range(5)]
    for foreign in (*other.kept, *beside.kept):
        with pytest.raises((ValueError, TypeError), match="another client"):
            USES[use](client, foreign)
    assert client.map(str, mine) == [f"mine {i}" for i in range(5)]


@pytest.mark.parametrize("use", ["argument", "in a list", "imap", "submit", "item"])
def test_a_client_that_put_nothing_refuses_refs_too(other, use):
    """worker.A2: without values of its own nothing was looked at."""
    with new_client(1) as fresh, pytest.raises(ValueError, match="another client"):
        USES[use](fresh, other.kept[0])


def test_a_ref_of_a_closed_client_is_an_error(client):
    """worker.A2, python.Y7: a Ref that was kept over a reconnect."""
    endpoint = client.status()["endpoint"]
    with peach.connect(endpoint) as gone:
        ref = gone.put("gone")
    with peach.connect(endpoint) as again:
        again.put("another")
        with pytest.raises(ValueError, match="another client"):
            again.call(str, ref)
    with pytest.raises(ValueError, match="closed"):
        gone.call(str, ref)


@pytest.mark.held
def test_one_value_put_through_two_clients_is_two(client, beside):
    one, two = client.put([1, 2]), beside.put([1, 2])
    assert one != two and one == client.put([1, 2])
    del two
    gc.collect()
    beside.call(abs, 1)  # the value is dropped by now
    assert client.call(sum, one) == 3


@pytest.mark.parametrize("use, result", [
    ("argument", "mine"), ("keyword", "mine"), ("in a list", [1, "mine"]),
    ("in a dict", {"a": {"b": ["mine"]}}), ("item", ["mine"]), ("of a generator", ["1", "mine"]),
    ("submit", "mine"), ("submit of a list", 1), ("submit with a keyword", "mine"),
    ("imap", ["mine"]), ("initialized", "mine"), ("executor", ["mine"])])
def test_a_ref_may_be_wherever_an_argument_may_be(client, use, result):
    """python.Y8: in a list, a dict or a keyword it was an error that said that it may be there."""
    assert USES[use](client, client.put("mine")) == result


@pytest.mark.held
def test_in_another_object_it_is_told(client):
    for value in ((1, client.put(1)), {(1, client.put(1))}, [{1, client.put(1)}]):
        with pytest.raises(TypeError, match="list or dict of arguments"):
            client.call(len, value)


@pytest.mark.parametrize("way", [
    lambda c, x: c.submit(np.max, c.put(x)).result(20),
    lambda c, x: c.options(retries=0).submit(np.max, c.put(x)).result(20),
    lambda c, x: next(iter(peach.Executor(client=c).map(np.max, [c.put(x)]))),
    lambda c, x: list(c.imap(np.max, [c.put(x)], [None]))[0],
    lambda c, x: list(c.imap(np.max, (c.put(x) for _ in range(1))))[0],
], ids=["submit", "options", "executor", "imap", "generator"])
def test_a_value_is_kept_for_the_calls_that_have_it(client, way):
    """Who keeps no Ref still gets what he passed: 28 of 30 submits did not."""
    array = np.zeros(200_000)
    for i in range(10):
        array[:] = i
        assert way(client, array) == i


@pytest.mark.held
def test_values_are_gone_with_their_last_use(client):
    """What jobs keep they let go: the broker keeps 4096 values of a client."""
    for first in range(0, 4200, 100):
        numbers = range(first, first + 100)
        assert client.map(int, [client.put(float(i)) for i in numbers]) == list(numbers)
