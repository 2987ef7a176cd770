"""Cross-validation: the folds against sklearn's, searches against themselves and each other."""
import numpy as np
import pytest

import peach
from peach import xval
from peach.xval import spaces, splits

sklearn = pytest.importorskip("sklearn")


def data(m=300):
    from sklearn.datasets import load_digits
    x, y = load_digits(return_X_y=True)
    return x[:m], y[:m]


def folds(name, k, n=1, m=10, y=None, **more):
    y = np.arange(m) if y is None else y
    return [(list(a), list(b)) for a, b in splits.folds(name, k, n, y, **more)]


def test_bins_are_as_even_as_can_be():
    sizes = [len(b) for b in splits.bins(np.arange(10000), 6)]
    assert sizes == [1666, 1667, 1667, 1666, 1667, 1667]


def test_k_fold_tests_the_last_bin_first():
    assert folds("kf_split", 3, m=3) == [([0, 1], [2]), ([2, 0], [1]), ([1, 2], [0])]


@pytest.mark.parametrize("m, k", [(12, 3), (100, 5), (60, 60)])
def test_k_fold_has_sklearn_s_rows(m, k):
    from sklearn.model_selection import KFold
    want = [(sorted(a), sorted(b)) for a, b in KFold(k).split(np.zeros(m))]
    assert [(sorted(a), b) for a, b in reversed(folds("kf_split", k, m=m))] == want


def test_chain_forward_has_sklearn_s_rows():
    from sklearn.model_selection import TimeSeriesSplit
    want = [(list(a), list(b)) for a, b in TimeSeriesSplit(4).split(np.zeros(20))]
    assert folds("ts_chain", 5, m=20) == want
    rolls = [(list(a), list(b)) for a, b in TimeSeriesSplit(4, max_train_size=4).split(np.zeros(20))]
    assert folds("ts_rolls", 5, m=20) == rolls


def test_the_share_held_out_is_sklearn_s():
    from sklearn.model_selection import train_test_split
    a, b = train_test_split(np.arange(50), test_size=0.2, shuffle=False)
    assert folds("pc_split", 0.2, 2, m=50) == [(list(a), list(b))] * 2
    (a, b), (c, d) = folds("mc_split", 0.2, 2, m=50)
    assert len(b) == 10 and sorted(a + b) == list(range(50)) and b != d


def test_shuffled_and_stratified_folds_are_partitions():
    y = np.array([0] * 60 + [1] * 30 + [2] * 10)
    for name in ("kf_shuff", "kf_strat"):
        made = folds(name, 5, 2, y=y)
        assert len(made) == 10 and made[0] != made[5]
        for repeat in (made[:5], made[5:]):
            assert sorted(sum((b for _, b in repeat), [])) == list(range(100))
            assert all(not set(a) & set(b) for a, b in repeat)
    for _, test in folds("kf_strat", 5, y=y):
        assert list(np.bincount(y[test])) == [12, 6, 2]  # as StratifiedKFold's


def test_repetitions_are_drawn_from_the_seed():
    assert folds("kf_shuff", 3, 2) == folds("kf_shuff", 3, 2)
    assert folds("kf_shuff", 3, 2) != folds("kf_shuff", 3, 2, random_state=1)
    assert folds("kf_shuff", 3, 1) == folds("kf_shuff", 3, 2)[:3]


@pytest.mark.parametrize("name", list(splits.SPLITS))
def test_every_split_runs_on_the_fleet_as_it_does_here(client, name):
    from sklearn.tree import DecisionTreeClassifier
    x, y = data(120)
    k = 0.25 if name in splits.SHARES else 4
    run = getattr(xval.xv, name)
    model = xval.fit_score(DecisionTreeClassifier(random_state=0))
    there = run(k, 2, x, y, model, client=client)
    default, peach._fleet._last = peach._fleet._last, lambda: None
    here = run(k, 2, x, y, model)
    peach._fleet._last = default
    assert here == there and len(here) == len(splits.folds(name, k, 2, y))


def test_scores_are_sklearn_s(client):
    from sklearn.model_selection import KFold, cross_val_score
    from sklearn.svm import SVC
    x, y = data()
    got = xval.xv.kf_split(5, 1, x, y, xval.fit_score(SVC(), {"C": 10}), client=client)
    assert got[::-1] == pytest.approx(list(cross_val_score(SVC(C=10), x, y, cv=KFold(5))))


def test_an_estimator_goes_both_ways(make_client, tmp_path):
    """Pickled by the client; and made in the worker by a function of the preload."""
    from sklearn.tree import DecisionTreeClassifier
    script = tmp_path / "models.py"
    script.write_text("from sklearn.tree import DecisionTreeClassifier\n"
                      "def make(max_depth): return DecisionTreeClassifier(max_depth=max_depth,"
                      " random_state=0)\n")
    client = make_client(2, [script])
    x, y = data(150)
    grid = {"max_depth": [2, 5]}
    sent = xval.gs.kf_split(3, 1, x, y, DecisionTreeClassifier(random_state=0), grid, client=client)
    made = xval.gs.kf_split(3, 1, x, y, "models.make", grid, client=client)
    assert sent == made and [p for p, _ in made] == [{"max_depth": 2}, {"max_depth": 5}]


def test_grid_search_is_sklearn_s(client):
    from sklearn.model_selection import GridSearchCV, KFold
    from sklearn.svm import SVC
    x, y = data()
    grid = {"C": [0.1, 10], "gamma": [0.001, 0.01]}
    seen = []
    got = xval.gs.kf_split(3, 1, x, y, SVC(), grid, client=client, callback=lambda *a: seen.append(a))
    want = GridSearchCV(SVC(), grid, cv=KFold(3)).fit(x, y)
    assert [p for p, _ in got] == want.cv_results_["params"]
    assert [np.mean(s) for _, s in got] == pytest.approx(list(want.cv_results_["mean_test_score"]))
    assert [s[0] for s in seen] == [1, 2, 3, 4] and seen[-1][2][1] == want.best_params_
    scores, best, held = xval.gs.kf_split(3, 1, x, y, SVC(), grid, 0.2, client=client)
    at = len(x) - 60
    assert len(scores) == 4 and best in [p for p, _ in scores]
    assert held == SVC(**best).fit(x[:at], y[:at]).score(x[at:], y[at:])
    shuffled = xval.gs.kf_split(3, 1, x, y, SVC(), grid, -0.2, client=client)
    assert shuffled.held_out != held or shuffled.scores != scores


def test_pandas_goes_too(client):
    pd = pytest.importorskip("pandas")
    from sklearn.linear_model import LinearRegression
    x = pd.DataFrame({"a": np.arange(30.), "b": np.arange(30.)**2})
    y = pd.Series(3 * x.a - x.b)
    assert xval.xv.kf_split(3, 1, x, y, xval.fit_score(LinearRegression()),
                            client=client) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize("kind", ["random", "sobol"])
def test_searches_reproduce_with_the_seed(client, kind):
    from sklearn.tree import DecisionTreeClassifier
    x, y = data(120)
    space = {"kind": kind, "n": 8, "random_state": 3,
             "p": {"max_depth": ("uniform", 1, 20, int), "ccp_alpha": ("loguniform", -4, -1),
                   "criterion": ("symbol", ["gini", "entropy"])}}

    def run(state=3):
        return xval.rs.kf_shuff(3, 1, x, y, DecisionTreeClassifier(random_state=0),
                                {**space, "random_state": state}, client=client)

    first = run()
    assert first == run() and [p for p, _ in first] != [p for p, _ in run(4)]
    for params, scores in first:
        assert 1 <= params["max_depth"] <= 20 and 1e-4 <= params["ccp_alpha"] <= 1e-1
        assert isinstance(params["max_depth"], int) and len(scores) == 3


def test_sets_that_come_twice_are_dropped():
    with pytest.warns(UserWarning, match="came twice"):
        sets = spaces.draw({"n": 16, "p": {"a": "boolean", "b": ("rand", [1, 2])}})
    assert len(sets) == 4


@pytest.mark.parametrize("call, text", [
    (lambda: splits.folds("kf_split", 1, 1, [1, 2, 3]), "1 bins of 3 rows are not possible"),
    (lambda: splits.folds("kf_split", 4, 1, [1, 2, 3]), "4 bins of 3 rows"),
    (lambda: splits.folds("pc_split", 3, 1, [1, 2, 3]), "share held out is between 0 and 1"),
    (lambda: splits.folds("mc_split", 0.01, 1, [1, 2, 3]), "is empty"),
    (lambda: splits.folds("kf_split", 2, 0, [1, 2, 3]), "at least 1"),
    (lambda: spaces.draw({"kind": "sobol", "n": 12, "p": {"a": "boolean"}}), "power of two.*16"),
    (lambda: spaces.draw({"kind": "bayes", "p": {"a": "boolean"}}), "random or sobol"),
    (lambda: spaces.draw({"p": {"a": ("normal", 0, 1)}}), "'a' is drawn by one of"),
    (lambda: spaces.draw({"p": {"a": ("uniform", 2, 1)}}), "low, high"),
    (lambda: spaces.draw({"n": 4}), "p is missing"),
    (lambda: spaces.draw({"seed": 4, "p": {"a": "boolean"}}), "there is no seed"),
    (lambda: spaces.grid({"a": 3}), "'a' are to be a list"),
    (lambda: spaces.grid({}), "needs parameters"),
    (lambda: xval.xv.kf_split(2, 1, [1, 2], [1], abs), "x has 2 rows and y 1"),
    (lambda: xval.gs.kf_split(2, 1, [1, 2], [1, 2], abs, {"a": [1]}, 2), "between -1 and 1"),
])
def test_what_is_wrong_is_said(call, text):
    with pytest.raises(ValueError, match=text):
        call()
