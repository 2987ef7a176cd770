"""The package beside what it takes the place of, in one run: python.py PART RUNS

Prints JSON: {name: [[peach, yardstick], ...]}, seconds of a run each.
"""
import concurrent.futures
import json
import multiprocessing
import sys
import time
import warnings

SLOTS = 4


def same(x):
    return x


def nothing():
    pass


def timed(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def pairs(runs, ours, theirs):
    ours(), theirs()  # warm
    return [[timed(ours), timed(theirs)] for _ in range(runs)]


def maps(client, runs):
    items = list(range(1_000_000))
    with multiprocessing.Pool(SLOTS) as pool, client.executor() as executor:
        return {"lists": pairs(runs, lambda: client.map(same, items),
                               lambda: pool.map(same, items)),
                "executor_map": pairs(runs, lambda: list(executor.map(same, items)),
                                      lambda: pool.map(same, items))}


def submit(client, runs):
    def calls(executor):
        for future in [executor.submit(nothing) for _ in range(20_000)]:
            future.result()

    with concurrent.futures.ProcessPoolExecutor(SLOTS) as pool, client.executor() as executor:
        return {"submit": pairs(runs, lambda: calls(executor), lambda: calls(pool))}


def grid(client, runs):
    import joblib
    import peach.joblib
    from sklearn.datasets import load_digits
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    peach.joblib.register(client)
    x, y = load_digits(return_X_y=True)

    def search(backend):
        with joblib.parallel_backend(backend, n_jobs=SLOTS):
            GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.001, 0.01]}, cv=5).fit(x, y)

    return {"grid": pairs(runs, lambda: search("peach"), lambda: search("loky"))}


def fresh(client, runs):
    """1,000 ids of 64 values, all features that are not a loop of a library's; a plain loop
    calls the same functions a series at a time. And on one slot beside four."""
    import numpy as np
    import peach.fresh
    from peach import _fleet
    from sklearn.datasets import load_digits

    warnings.simplefilter("ignore")
    x = load_digits().data[:1000]
    table = {"id": np.repeat(np.arange(len(x)), 64), "x": x.ravel(), "y": x.ravel() ** 2}
    wanted = [name for name in peach.fresh.DEFAULTS if name not in ("aug_fuller", "num_cwt_peaks")]
    calls = peach.fresh.calls(peach.fresh.parameters(wanted))

    def whole(one):
        peach.fresh.create_features(table, "id", ["x", "y"], wanted, client=one)

    def loop():
        for column in ("x", "y"):
            for series in table[column].reshape(-1, 1, 64):
                peach.fresh.features.compute(series, calls)

    single = _fleet.start(1)
    return {"fresh": pairs(1, lambda: whole(client), loop),
            "fresh_scale": pairs(runs, lambda: whole(client), lambda: whole(single))}


if __name__ == "__main__":
    import peach

    with peach.init(SLOTS) as fleet:
        print(json.dumps(globals()[sys.argv[1]](fleet, int(sys.argv[2]))))
