"""What a caller passes is what it was when the call was made, and what a function returns is what
it was when it returned: whatever holds the memory, and however large it is."""
import asyncio
import sys

import cloudpickle
import numpy as np
import pytest

import holders
import peach
from holders import HOLDERS, KIB, RESULTS, SIZES, buffer_of, same

cloudpickle.register_pickle_by_value(holders)  # the fleet does not have them
cloudpickle.register_pickle_by_value(sys.modules[__name__])

COUNT = 6
FEW = ["itself", "dict", "dataclass", "frame", "bytearray", "lends_again"]
FEW_SIZES = [KIB * k for k in (1, 33, 65, 257)]


# ---- what a function returns ----


def giver(kind, size):
    """A function that fills one buffer again for each item, and returns what holds it."""
    make, _ = RESULTS[kind]

    def give(number):
        return make(buffer_of(size, number))

    return give


def check_results(kind, size, results):
    read = RESULTS[kind][1]
    wrong = [i for i, value in enumerate(results) if not same(read, value, i)]
    assert not wrong, f"{kind} of {size} bytes: items {wrong} of {len(results)}"


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_is_what_it_was_when_the_function_returned(client, kind):
    """worker.A1: the buffers of a pickle waited, lent, while the next items wrote to them."""
    for size in SIZES:
        check_results(kind, size, client.options(chunk=50).map(giver(kind, size), range(COUNT)))


@pytest.mark.parametrize("options", [
    {}, {"chunk": 1}, {"chunk": 3}, {"chunk": 50, "retries": 0}, {"chunk": 50, "logs": print},
    {"chunk": 50, "seed": 3}, {"chunk": 50, "timeout": 60}], ids=str)
@pytest.mark.parametrize("kind", FEW)
def test_whatever_the_options_a_result_is_what_it_was(client, kind, options):
    """worker.A1"""
    for size in FEW_SIZES:
        check_results(kind, size, client.options(**options).map(giver(kind, size), range(20)))


@pytest.mark.parametrize("kind", FEW)
def test_whoever_reads_it_a_result_is_what_it_was(client, kind):
    """worker.A1: results of calls of their own, as they finish, as a stream, and of an executor."""
    for size in FEW_SIZES:
        give = giver(kind, size)
        check_results(kind, size, [f.result(30) for f in [client.submit(give, i) for i in range(20)]])
        check_results(kind, size, list(client.imap(give, range(20))))
        with client.executor() as executor:
            check_results(kind, size, list(executor.map(give, range(20), chunksize=5)))


def test_results_among_numbers_and_texts_are_what_they_were(client):
    """worker.A1: what waits beside it waits for nothing else either."""
    def mixed(i):
        buffer = buffer_of(33 * KIB, i)
        return [i, {"a": buffer}, str(i), (buffer, buffer), buffer][i % 5]

    results = client.options(chunk=50).map(mixed, range(50))
    for i, value in enumerate(results):
        parts = {0: [], 1: lambda v: [v["a"]], 2: [], 3: list, 4: lambda v: [v]}[i % 5]
        assert all((part == i).all() for part in (parts(value) if parts else []))
    assert results[0::5] == list(range(0, 50, 5)) and results[2::5] == [str(i) for i in range(2, 50, 5)]


# ---- what a caller passes ----


def reader(kind):
    """A function that says what its argument holds: one number; -1 if it is not one."""
    read = HOLDERS[kind][1]

    def look(value):
        found = read(value)
        return int(found[0]) if len(found) and (found == found[0]).all() else -1

    return look


def values(kind, size, count=COUNT):
    """One buffer, filled again for each."""
    make = HOLDERS[kind][0]
    for number in range(count):
        yield make(buffer_of(size, number))
    buffer_of(size, 99)


@pytest.mark.parametrize("kind", HOLDERS)
def test_an_argument_is_what_it_was_when_the_call_was_made(client, kind):
    """worker.B3: it was converted later, and large memory was lent until it was sent."""
    look = reader(kind)
    for size in SIZES:
        futures = [client.submit(look, value) for value in values(kind, size)]
        assert [f.result(30) for f in futures] == list(range(COUNT)), size


@pytest.mark.parametrize("kind", HOLDERS)
def test_an_item_is_what_it_was_when_its_iterator_gave_it(client, kind):
    """worker.B3: as [f(x) for x in generator] has it."""
    look = reader(kind)
    for size in SIZES:
        assert list(client.imap(look, values(kind, size))) == list(range(COUNT)), size
        assert client.map(look, values(kind, size)) == list(range(COUNT)), size


def later(size, results):
    """The results of what was called, after its memory was written to."""
    buffer_of(size, 99)
    return results


async def gathered(client, look, kind, size):
    import peach.aio

    aio = peach.aio.AsyncClient(client)
    return await asyncio.gather(*[aio.call(look, value) for value in values(kind, size)])


async def awaited(client, make, kind, size):
    import peach.aio

    waiting = make(peach.aio.AsyncClient(client), HOLDERS[kind][0](buffer_of(size, 5)))
    buffer_of(size, 99)
    return await waiting


async def listed(client, look, kind, size):
    import peach.aio

    results = peach.aio.AsyncClient(client).imap(look, [HOLDERS[kind][0](buffer_of(size, 5))])
    buffer_of(size, 99)
    return [value async for value in results]


def one(kind, size):
    return HOLDERS[kind][0](buffer_of(size, 5))


def each(function, kind, size):
    return [future.result(30) for future in [function(value) for value in values(kind, size)]]


ITEMS = {  # name: results of a generator that fills one buffer again
    "submit_with_options": lambda c, f, k, s: each(
        lambda v: c.options(retries=1).submit(f, v), k, s),
    "submit_with_keywords": lambda c, f, k, s: each(
        lambda v: c.submit(lambda **more: f(more["x"]), x=v), k, s),
    "imap_unordered": lambda c, f, k, s: sorted(c.imap_unordered(f, values(k, s))),
    "imap_of_two": lambda c, f, k, s: list(c.imap(lambda a, b: f(a), values(k, s), range(COUNT))),
    "imap_with_options": lambda c, f, k, s: list(c.options(chunk=3).imap(f, values(k, s))),
    "map_of_two": lambda c, f, k, s: c.map(lambda a, b: f(a), values(k, s), range(COUNT)),
    "map_with_exceptions": lambda c, f, k, s: c.map(f, values(k, s), return_exceptions=True),
    "starmap": lambda c, f, k, s: c.starmap(f, ((v,) for v in values(k, s))),
    "call": lambda c, f, k, s: [c.call(f, v) for v in values(k, s)],
    "call_with_options": lambda c, f, k, s: [c.options(seed=1).call(f, v) for v in values(k, s)],
    "aio_call": lambda c, f, k, s: asyncio.run(gathered(c, f, k, s)),
    "put": lambda c, f, k, s: c.map(f, [c.put(v) for v in values(k, s)]),
    "executor_map": lambda c, f, k, s: with_executor(c, lambda e: list(e.map(f, values(k, s)))),
    "executor_submit": lambda c, f, k, s: with_executor(
        c, lambda e: each(lambda v: e.submit(f, v), k, s)),
    "executor_with_initializer": lambda c, f, k, s: with_executor(
        c, lambda e: list(e.map(f, values(k, s))), initializer=int),
    "pool_imap": lambda c, f, k, s: with_pool(c, lambda p: list(p.imap(f, values(k, s)))),
    "pool_imap_unordered": lambda c, f, k, s: with_pool(
        c, lambda p: sorted(p.imap_unordered(f, values(k, s), chunksize=2))),
    "pool_map": lambda c, f, k, s: with_pool(c, lambda p: p.map(f, values(k, s))),
    "pool_map_async": lambda c, f, k, s: with_pool(
        c, lambda p: later(s, p.map_async(f, values(k, s))).get(30)),
    "pool_starmap_async": lambda c, f, k, s: with_pool(
        c, lambda p: later(s, p.starmap_async(f, ((v,) for v in values(k, s)))).get(30)),
    "pool_apply_async": lambda c, f, k, s: with_pool(
        c, lambda p: [r.get(30) for r in [p.apply_async(f, (v,)) for v in values(k, s)]]),
}

LISTS = {  # name: results of a list whose memory is written to after the call
    "imap": lambda c, f, k, s: list(later(s, c.imap(f, [one(k, s)]))),
    "imap_unordered": lambda c, f, k, s: list(later(s, c.imap_unordered(f, (one(k, s),)))),
    "imap_beside_an_iterator": lambda c, f, k, s: list(
        later(s, c.imap(lambda a, b: f(a), [one(k, s)], iter([1])))),
    "imap_with_options": lambda c, f, k, s: list(
        later(s, c.options(retries=0).imap(f, [one(k, s)]))),
    "aio_map": lambda c, f, k, s: asyncio.run(awaited(c, lambda a, v: a.map(f, [v]), k, s)),
    "aio_starmap": lambda c, f, k, s: asyncio.run(
        awaited(c, lambda a, v: a.starmap(f, [[v]]), k, s)),
    "aio_imap": lambda c, f, k, s: asyncio.run(listed(c, f, k, s)),
    "aio_put": lambda c, f, k, s: [c.call(f, asyncio.run(awaited(c, lambda a, v: a.put(v), k, s)))],
    "executor_map": lambda c, f, k, s: with_executor(
        c, lambda e: list(later(s, e.map(f, [one(k, s)])))),
    "pool_imap": lambda c, f, k, s: with_pool(c, lambda p: list(later(s, p.imap(f, [one(k, s)])))),
    "pool_starmap_async": lambda c, f, k, s: with_pool(
        c, lambda p: later(s, p.starmap_async(f, [(one(k, s),)])).get(30)),
}


def with_executor(client, do, **more):
    with peach.Executor(client=client, **more) as executor:
        return do(executor)


def with_pool(client, do):
    with peach.Pool(client=client) as pool:
        return do(pool)


@pytest.fixture
def busy(client):
    """Nothing that is called is sent at once: the slots have something to do."""
    import time

    naps = [client.submit(time.sleep, 0.15) for _ in range(6)]
    yield client
    for nap in naps:
        nap.result(30)


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("way", ITEMS)
def test_each_way_of_calling_takes_what_is_there_then(client, way, kind):
    """worker.B3, and its kind: submit, executors, pools, asyncio, options, keywords."""
    for size in FEW_SIZES:
        assert ITEMS[way](client, reader(kind), kind, size) == list(range(COUNT)), size


@pytest.mark.parametrize("kind", ["itself", "dict", "frame"])
@pytest.mark.parametrize("way", LISTS)
def test_a_list_may_be_written_to_after_the_call(busy, way, kind):
    """worker.B3: of what returns before its items were used."""
    for size in (KIB, 65 * KIB):
        assert LISTS[way](busy, reader(kind), kind, size) == [5], size


def test_an_initializer_gets_its_arguments_as_they_were(client):
    """worker.B3: they were pickled anew with each call."""
    def remember(values):
        sys._remembered = int(values.max())

    values = np.full(9 * KIB, 3.0)
    with peach.Executor(client=client, initializer=remember, initargs=(values,)) as executor:
        values[:] = 4
        assert set(executor.map(lambda _: sys._remembered, range(6))) == {3}


def test_joblib_gets_an_array_as_it_is_at_each_batch(client):
    """worker.B3's kind: an array that was put was known by its id, whatever was written to it."""
    pytest.importorskip("joblib")
    from joblib.parallel import BatchedCalls

    import peach.joblib

    backend = peach.joblib.PeachBackend(client)
    array = np.zeros(300_000)
    futures = []
    for i in range(COUNT):
        array[:] = i
        futures.append(backend.apply_async(BatchedCalls([(np.max, (array,), {})], (backend, 2))))
    assert [future.result(30) for future in futures] == [[i] for i in range(COUNT)]
    assert backend._ref(client, array) == backend._ref(client, array)


def test_numbers_texts_and_tuples_of_them_wait_as_they_are():
    """They cannot change: no copy is made of them before they are sent."""
    from peach._peach import Held, hold, hold_call

    fixed = (1, 2.5, None, True, "text", b"bytes", 1j, (1, ("a", b"b")))
    assert hold_call(fixed, 2) is fixed and hold(fixed, 2) is fixed
    for changes in ([1], {}, bytearray(1), np.zeros(1), (1, [2]), np.float64(1), {1}):
        assert type(hold_call((changes,), 2)) is Held and type(hold(changes, 2)) is Held
    assert not hold_call(([1],), 2).refers


@pytest.mark.held
def test_one_array_in_many_calls_that_wait_is_one_copy(client):
    """A thousand calls with 4 MiB each would be 4 GiB."""
    import pathlib
    import time

    def resident():
        fields = pathlib.Path("/proc/self/statm").read_text().split()
        return int(fields[1]) * 4096

    array = np.zeros(512 * KIB)
    naps = [client.submit(time.sleep, 0.5) for _ in range(40)]
    before = resident()
    futures = [client.submit(lambda a, i: a[0] + i, array, i) for i in range(200)]
    used = resident() - before
    array[:] = 7
    futures += [client.submit(lambda a, i: a[0] + i, array, 0)]
    for future in naps[12:] + futures[8:-1]:
        future.cancel()
    assert futures[0].result(60) == 0 and futures[-1].result(60) == 7
    assert used < 100 * KIB * KIB
