"""What concurrent.futures promises, over its two executors and ours."""
import asyncio
import concurrent.futures as cf
import multiprocessing
import os
import threading
import time

import pytest

import peach


def nap(seconds):
    time.sleep(seconds)
    return seconds


def fail(x):
    raise KeyError(x)


def add(a, b=0, *, c=0):
    return a + b + c


def divide(a, b):
    return a / b


def remember(value):
    os.environ["REMEMBERED"] = str(value)


def remembered(_):
    return os.environ.get("REMEMBERED")


def broken():
    raise RuntimeError("no start")


@pytest.fixture(params=["thread", "process", "peach"])
def make(request, client):
    made = []

    def make(workers=2, **more):
        kind = {"thread": cf.ThreadPoolExecutor,
                "process": lambda n, **m: cf.ProcessPoolExecutor(
                    n, mp_context=multiprocessing.get_context("spawn"), **m),
                "peach": lambda n, **m: peach.Executor(n, client=client, **m)}[request.param]
        made.append(kind(workers, **more))
        return made[-1]

    make.kind = request.param
    yield make
    for executor in made:
        executor.shutdown()


def test_submit_gives_a_future_of_the_result(make):
    executor = make()
    assert isinstance(executor, cf.Executor)
    future = executor.submit(add, 1, b=2, c=3)
    assert isinstance(future, cf.Future) and future.result(30) == 6
    assert future.done() and not future.running() and not future.cancelled()
    assert future.exception() is None


def test_an_exception_is_the_future_s(make):
    future = make().submit(fail, "why")
    assert isinstance(future.exception(30), KeyError)
    with pytest.raises(KeyError, match="why"):
        future.result()


def test_result_times_out_and_goes_on(make):
    future = make().submit(nap, 0.5)
    with pytest.raises(cf.TimeoutError):
        future.result(0.01)
    assert future.result(30) == 0.5


def test_map_is_in_order_and_lazy_to_read(make):
    executor = make()
    assert list(executor.map(add, [1, 2, 3], [10, 20, 30])) == [11, 22, 33]
    assert list(executor.map(add, range(100), chunksize=7)) == list(range(100))
    assert list(executor.map(add, [])) == []
    results = executor.map(divide, [1, 1, 1], [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_map_times_out(make):
    results = make().map(nap, [0, 3], timeout=1.5)
    assert next(results) == 0
    with pytest.raises(cf.TimeoutError):
        next(results)


def test_wait_and_as_completed(make):
    executor = make()
    executor.submit(add, 1).result(30)
    slow, fast, bad = executor.submit(nap, 1), executor.submit(add, 1), executor.submit(fail, 1)
    done, rest = cf.wait([slow, fast], return_when=cf.FIRST_COMPLETED, timeout=30)
    assert fast in done and slow in rest
    done, rest = cf.wait([slow, bad], return_when=cf.FIRST_EXCEPTION, timeout=30)
    assert bad in done and slow in rest
    assert list(cf.as_completed([slow, fast], timeout=30)) == [fast, slow]
    assert cf.wait([slow, fast, bad], timeout=30).not_done == set()


def test_callbacks_are_told_once_done_or_not_yet(make):
    told = []
    event = threading.Event()
    future = make().submit(nap, 0.1)
    future.add_done_callback(lambda f: 1 / 0)  # is logged and hurts nobody
    future.add_done_callback(lambda f: (told.append(f.result()), event.set()))
    assert event.wait(30) and told == [0.1]
    future.add_done_callback(lambda f: told.append("late"))
    assert told == [0.1, "late"]


def test_waiting_calls_can_be_cancelled_and_running_ones_not(make):
    executor = make(1)
    executor.submit(add, 1).result(30)
    first = executor.submit(nap, 1)
    others = [executor.submit(nap, 0.01) for _ in range(8)]
    while not first.running():
        time.sleep(0.01)
    assert not first.cancel()
    last = others[-1]
    assert last.cancel() and last.cancelled() and last.done()
    with pytest.raises(cf.CancelledError):
        last.result()
    assert first.result(30) == 1 and [f.result(30) for f in others[:-1]] == [0.01] * 7


def test_shutdown_waits_and_takes_no_more(make):
    executor = make()
    future = executor.submit(nap, 0.3)
    executor.shutdown()
    assert future.done() and future.result() == 0.3
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(add, 1)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(executor.map(add, [1]))
    executor.shutdown()


@pytest.mark.alone
def test_shutdown_without_waiting_still_finishes(make):
    executor = make()
    futures = [executor.submit(nap, 0.1) for _ in range(4)]
    results = executor.map(add, range(3))
    begun = time.monotonic()
    executor.shutdown(wait=False)
    if make.kind != "process":  # it starts its processes first
        assert time.monotonic() - begun < 0.3
    assert [f.result(30) for f in futures] == [0.1] * 4 and list(results) == [0, 1, 2]


def test_shutdown_cancels_what_waits(make):
    executor = make(1)
    executor.submit(add, 1).result(30)
    futures = [executor.submit(nap, 0.3) for _ in range(10)]
    while not futures[0].running():
        time.sleep(0.01)
    executor.shutdown(cancel_futures=True)
    assert futures[0].result() == 0.3 and futures[-1].cancelled()
    assert all(f.done() for f in futures)


def test_as_a_context_it_waits(make):
    with make() as executor:
        futures = [executor.submit(nap, 0.05) for _ in range(6)]
    assert all(f.done() for f in futures)


def test_the_initializer_runs_before_calls(make):
    executor = make(2, initializer=remember, initargs=(make.kind,))
    assert set(executor.map(remembered, range(6))) == {make.kind}
    assert executor.submit(remembered, 0).result(30) == make.kind


def test_a_failing_initializer_breaks_the_executor(make):
    executor = make(1, initializer=broken)
    with pytest.raises(cf.BrokenExecutor):
        executor.submit(add, 1).result(30)
    with pytest.raises(cf.BrokenExecutor):
        executor.submit(add, 1).result(30)


def test_arguments_are_checked(make):
    with pytest.raises(ValueError):
        make(0)
    with pytest.raises(TypeError):
        make(1, initializer=3)


def test_for_asyncio(make):
    executor = make()

    async def run():
        loop = asyncio.get_running_loop()
        return await asyncio.gather(*(loop.run_in_executor(executor, add, i) for i in range(10)))

    assert asyncio.run(run()) == list(range(10))


def test_max_workers_is_the_most_that_runs(client):
    with peach.Executor(1, client=client) as executor:
        begun = time.monotonic()
        list(f.result() for f in [executor.submit(nap, 0.2) for _ in range(3)])
        assert time.monotonic() - begun > 0.55


def test_a_call_whose_process_dies_fails_alone(client):
    with peach.Executor(client=client) as executor:
        lost, fine = executor.submit(os._exit, 3), executor.submit(add, 1)
        assert fine.result(30) == 1
        with pytest.raises(peach.TaskLost):
            lost.result(30)


def test_a_pool_has_multiprocessing_s_methods(client):
    with peach.Pool(client=client) as pool:
        assert pool.map(lambda x: x * x, range(5)) == [0, 1, 4, 9, 16]
        assert pool.apply(add, (1,), {"c": 2}) == 3
        assert pool.starmap(add, [(1, 2), (3, 4)]) == [3, 7]
        assert list(pool.imap(lambda x: x, range(4), chunksize=2)) == [0, 1, 2, 3]
        assert sorted(pool.imap_unordered(lambda x: x, range(4))) == [0, 1, 2, 3]
        told = []
        later = pool.map_async(lambda x: x, range(3), callback=told.append)
        assert later.get(30) == [0, 1, 2] and later.successful() and told == [[0, 1, 2]]
        errors = []
        bad = pool.apply_async(fail, ("x",), error_callback=errors.append)
        with pytest.raises(KeyError):
            bad.get(30)
        assert isinstance(errors[0], KeyError) and not bad.successful()
        with pytest.raises(multiprocessing.TimeoutError):
            pool.apply_async(nap, (1,)).get(0.01)
        assert pool.starmap_async(add, [(1, 1)]).get(30) == [2]
        with pytest.raises(ValueError, match="running"):
            pool.join()
        pool.close()
        pool.join()
        with pytest.raises(ValueError, match="not running"):
            pool.map(abs, [1])


def test_asyncio_clients(client):
    import peach.aio

    async def run():
        async with peach.aio.connect(client.status()["endpoint"]) as c:
            assert await c.call(add, 1, c=2) == 3
            assert await c.map(lambda x: x + 1, range(5)) == [1, 2, 3, 4, 5]
            assert [x async for x in c.imap(lambda x: x, range(5))] == list(range(5))
            with pytest.raises(KeyError):
                await c.call(fail, 1)
            both = await asyncio.gather(*(c.call(nap, 0.2) for _ in range(4)))
            assert both == [0.2] * 4
        return await peach.aio.connect(client.status()["endpoint"])

    asyncio.run(asyncio.run(run()).close())


def test_futures_are_the_library_s_in_all_that_is_seen(client):
    """They are cheaper until somebody waits; then they are what concurrent.futures makes."""
    from peach._future import Future

    with client.executor() as executor:
        future = executor.submit(add, 1)
        assert isinstance(future, Future) and future.result(30) == 1
        assert "finished returned int" in repr(future)
        assert list(cf.as_completed([future, executor.submit(add, 2)], 30))
        many = [executor.submit(add, i) for i in range(2000)]
        threads = [threading.Thread(target=lambda: [f.result(30) for f in many]) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert len(cf.wait(many, 30).done) == 2000
        for thread in threads:
            thread.join()
    future = Future()
    assert future.cancel() and future.cancelled() and not future.set_running_or_notify_cancel()
    future = Future()
    assert not future.done() and future.set_running_or_notify_cancel() and future.running()
    with pytest.raises(cf.TimeoutError):
        future.result(0)
    told = []
    future.add_done_callback(told.append)
    future.set_exception(KeyError("x"))
    assert told == [future] and isinstance(future.exception(), KeyError)
    with pytest.raises(cf.InvalidStateError):
        future.set_result(1)
    future = Future()
    future.set_running_or_notify_cancel()
    future.set_result(5)
    with pytest.raises(cf.InvalidStateError):
        future.set_result(6)
    assert future.result() == 5 and future.exception() is None and not future.cancel()
