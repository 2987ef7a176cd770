"""joblib, scikit-learn and tsfresh on a fleet: the same numbers as without."""
import itertools

import numpy as np
import pytest

import peach.tsfresh

joblib = pytest.importorskip("joblib")
import peach.joblib  # noqa: E402


@pytest.fixture(autouse=True)
def backend(client):
    peach.joblib.register(client)


def test_parallel(client):
    with joblib.parallel_backend("peach"):
        parallel = joblib.Parallel(n_jobs=-1)
        assert parallel(joblib.delayed(pow)(2, i) for i in range(100)) == [2**i for i in range(100)]
        assert joblib.effective_n_jobs(-1) == client.slots == 2
        with pytest.raises(ZeroDivisionError):
            joblib.Parallel(n_jobs=2)(joblib.delayed(divmod)(1, i) for i in (1, 0))


def test_large_arrays_go_once(client):
    array = np.arange(1_000_000.)
    before = client.status()["payload_bytes"]
    with joblib.parallel_backend("peach"):
        sums = joblib.Parallel(n_jobs=2)(
            joblib.delayed(lambda a, i: a[i] + a.flags.writeable)(array, i) for i in range(50))
    assert sums == list(range(50))
    assert client.status()["payload_bytes"] <= before + 1000


def test_nested_parallel(client):
    def inner(n):
        return sum(joblib.Parallel(n_jobs=2)(joblib.delayed(abs)(-i) for i in range(n)))

    with joblib.parallel_backend("peach"):
        assert joblib.Parallel(n_jobs=2)(joblib.delayed(inner)(n) for n in range(6)) == [
            sum(range(n)) for n in range(6)]


def test_sklearn_gives_the_same_numbers(client):
    datasets = pytest.importorskip("sklearn.datasets")
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.inspection import permutation_importance
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.svm import SVC

    x, y = datasets.load_digits(return_X_y=True)
    x, y = x[:600], y[:600]

    def numbers():
        grid = GridSearchCV(SVC(), {"C": [1, 10], "gamma": [0.001, 0.01]}, cv=3, n_jobs=-1)
        grid.fit(x, y)
        forest = RandomForestClassifier(20, random_state=0, n_jobs=-1).fit(x, y)
        importance = permutation_importance(forest, x[:100], y[:100], n_repeats=2,
                                            random_state=0, n_jobs=-1)
        return (grid.cv_results_["mean_test_score"], grid.best_params_,
                cross_val_score(SVC(), x, y, n_jobs=-1), forest.predict_proba(x),
                importance.importances_mean)

    with joblib.parallel_backend("threading"):
        want = numbers()
    with joblib.parallel_backend("peach"):
        got = numbers()
    for a, b in zip(want, got):
        assert a == b if isinstance(a, dict) else (a == b).all()


def test_the_distributor_of_tsfresh(client):
    """Its contract, as tsfresh.utilities.distribution uses it."""
    distributor = peach.tsfresh.Distributor(client)
    data = [("id", k, list(range(k))) for k in range(20)]

    def features(chunk, scale=1):
        return [(chunk[1], "sum", scale * sum(chunk[2])), (chunk[1], "len", len(chunk[2]))]

    want = list(itertools.chain.from_iterable(features(c, 2) for c in data))
    assert distributor.map_reduce(features, data, {"scale": 2}, 3, len(data)) == want
    assert distributor.map_reduce(features, iter(data), {"scale": 2}) == want
    parts = distributor.distribute(lambda chunk, k: [k * x for x in chunk], [[1, 2], [3]], {"k": 2})
    assert list(parts) == [[2, 4], [6]]
    distributor.close()
    distributor.close()
    assert client.map(abs, [-1]) == [1] and distributor.calculate_best_chunk_size(100) == 10
