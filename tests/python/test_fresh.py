"""FRESH against numpy, scipy, pandas and statsmodels, on the rows of digits and on series that
are awkward; and what is undefined."""
import math
import warnings

import numpy as np
import pytest

import peach
import peach.fresh
from peach.fresh import features, params

scipy_stats = pytest.importorskip("scipy.stats")
INF = float("inf")


def digits():
    from sklearn.datasets import load_digits
    return load_digits().data[:1000]


def rng(m, n):
    return np.random.default_rng(m * 1000 + n).normal(0, 3, (m, n)).round(1)


@pytest.fixture(scope="module", params=["digits", "normal", "short", "tiny", "one", "long"])
def series(request):
    return {"digits": digits, "normal": lambda: rng(50, 101), "short": lambda: rng(40, 7),
            "tiny": lambda: rng(20, 2), "one": lambda: rng(10, 1),
            "long": lambda: rng(3, 1400)}[request.param]()


# ---- oracles: of one series x ----


def moving(x, lag):
    return x[2 * lag:], x[lag:len(x) - lag], x[:len(x) - 2 * lag]


def runs(flags):
    best = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        best = max(best, run)
    return best


def counted(x):
    return np.unique(x, return_counts=True)


def line(y):
    if len(y) < 2:
        return 0, 0, 0
    if len(set(y)) == 1:
        return 0, y[0], 0
    fit = scipy_stats.linregress(np.arange(len(y)), y)
    return fit.slope, fit.intercept, fit.rvalue


def agg_lin_trend(x, chunk_len):
    chunks = [x[i:i + chunk_len] for i in range(0, len(x), chunk_len)]
    return {f"{name}_{key}": value for name in ("max", "min", "var", "mean")
            for key, value in zip(("slope", "intercept", "rvalue"),
                                  line([getattr(np, name)(c) for c in chunks]))}


def agg_auto_corr(x):
    from statsmodels.tsa.stattools import acf
    if len(x) == 1 or x.var() < 1e-10:
        r = np.zeros(1)
    else:
        r = acf(x, adjusted=True, nlags=len(x) - 1, fft=len(x) > 1250)[1:]
    return {"mean": r.mean(), "variance": r.var(), "median": np.median(r), "std": r.std()}


def aug_fuller(x):
    from statsmodels.tsa.stattools import adfuller
    try:
        found = adfuller(x)[:3]
    except Exception:
        found = [math.nan] * 3
    return dict(zip(("teststat", "pvalue", "usedlag"), found))


def auto_corr(x, lag):
    if lag == 0:
        return 1
    if lag >= len(x) or x.var() == 0:
        return math.nan
    m = x.mean()
    return np.mean([(x[i] - m) * (x[i + lag] - m) for i in range(len(x) - lag)]) / x.var()


def binned_entropy(x, num_bins):
    if x.min() == x.max():
        return 0
    p = np.histogram(x, num_bins)[0] / len(x)
    return scipy_stats.entropy(p)


def change_quant(x, lower_quant, upper_quant, is_abs):
    low, high = np.quantile(x, lower_quant), np.quantile(x, upper_quant)
    d = np.array([b - a for a, b in zip(x, x[1:]) if low <= a <= high and low <= b <= high])
    if len(d) == 0:
        return {"max": -INF, "min": INF, **dict.fromkeys(
            ("mean", "variance", "median", "std"), math.nan)}
    d = np.abs(d) if is_abs else d
    return {"max": d.max(), "min": d.min(), "mean": d.mean(), "variance": d.var(),
            "median": np.median(d), "std": d.std()}


def cid_ce(x, is_abs):
    if is_abs:
        if len(set(x)) == 1:
            return 0
        x = (x - x.mean()) / x.std()
    return math.sqrt(sum((b - a)**2 for a, b in zip(x, x[1:])))


def e_ratio(x, num_seg):
    total = np.sum(x**2)
    return {f"chunk_{i}": np.sum(c**2) / total if total else math.nan
            for i, c in enumerate(np.array_split(x, num_seg))}


def fft_aggreg(x):
    a = np.abs(np.fft.rfft(x))
    if a.sum() == 0:
        return dict.fromkeys(("centroid", "variance", "skew", "kurtosis"), math.nan)
    m = [sum(k**p * v for k, v in enumerate(a)) / a.sum() for p in range(5)]
    variance = m[2] - m[1]**2
    small = variance < 0.5
    return {"centroid": m[1], "variance": variance,
            "skew": math.nan if small else (m[3] - 3 * m[1] * variance - m[1]**3) / variance**1.5,
            "kurtosis": math.nan if small else
            (m[4] - 4 * m[1] * (m[3] - 3 * m[1]) + 6 * m[2] * m[1]**2) / variance**2}


def fft_coeff(x, coeff):
    f = np.concatenate([np.fft.rfft(x), np.full(coeff, math.nan)])[:coeff]
    return {**{f"angle_{k}": np.degrees(np.angle(v)) for k, v in enumerate(f)},
            **{f"real_{k}": v.real for k, v in enumerate(f)},
            **{f"imag_{k}": v.imag if not math.isnan(v.real) else math.nan
               for k, v in enumerate(f)},
            **{f"abs_{k}": abs(v) for k, v in enumerate(f)}}


def index_mass_quantile(x, quantile):
    mass = np.cumsum(np.abs(x))
    if mass[-1] == 0:
        return math.nan
    return (next(i for i, v in enumerate(mass) if v >= quantile * mass[-1]) + 1) / len(x)


def num_peaks(x, support):
    return sum(all(x[i] > x[i - k] and x[i] > x[i + k] for k in range(1, support + 1))
               for i in range(support, len(x) - support))


def pacf(x, lag):
    from statsmodels.tsa.stattools import acovf, levinson_durbin
    known = min(lag, len(x) - 1)
    values = [math.nan] * lag
    if known and x.var() > 0:
        values[:known] = levinson_durbin(acovf(x, adjusted=True, fft=False), known,
                                         isacov=True)[2][1:]
    return {str(k + 1): v for k, v in enumerate(values)}


def spkt_welch(x, coeff):
    from scipy.signal import welch
    power = welch(x, nperseg=min(256, len(x)))[1]
    return power[coeff] if coeff < len(power) else math.nan


def cwt(x, width):
    from scipy.signal import find_peaks_cwt
    return len(find_peaks_cwt(x, np.arange(1, width + 1)))


def pandas_moment(name):
    import pandas
    return lambda x: getattr(pandas.Series(x), name)()


ORACLES = {
    "abs_energy": lambda x: x @ x,
    "abs_sum_change": lambda x: sum(abs(b - a) for a, b in zip(x, x[1:])),
    "agg_auto_corr": agg_auto_corr, "agg_lin_trend": agg_lin_trend, "aug_fuller": aug_fuller,
    "auto_corr": auto_corr, "binned_entropy": binned_entropy,
    "c3": lambda x, lag: np.mean([a * b * c for a, b, c in zip(*moving(x, lag))]),
    "change_quant": change_quant, "cid_ce": cid_ce, "count": len,
    "count_above_mean": lambda x: sum(x > x.mean()),
    "count_below_mean": lambda x: sum(x < x.mean()),
    "e_ratio_by_chunk": e_ratio, "fft_aggreg": fft_aggreg, "fft_coeff": fft_coeff,
    "first_max": lambda x: list(x).index(max(x)) / len(x),
    "first_min": lambda x: list(x).index(min(x)) / len(x),
    "has_dup": lambda x: len(set(x)) < len(x),
    "has_dup_max": lambda x: list(x).count(max(x)) > 1,
    "has_dup_min": lambda x: list(x).count(min(x)) > 1,
    "index_mass_quantile": index_mass_quantile,
    "kurtosis": pandas_moment("kurt"), "skewness": pandas_moment("skew"),
    "largest_dev": lambda x, ratio: np.std(x) > ratio * (max(x) - min(x)),
    "last_max": lambda x: max(i for i, v in enumerate(x) if v == max(x)) / len(x),
    "last_min": lambda x: max(i for i, v in enumerate(x) if v == min(x)) / len(x),
    "lin_trend": lambda x: dict(zip(("slope", "intercept", "rvalue"), line(x))),
    "long_strike_above_mean": lambda x: runs(x > x.mean()),
    "long_strike_below_mean": lambda x: runs(x < x.mean()),
    "max": max, "mean": np.mean, "med": np.median, "min": min, "sum_val": sum,
    "std_dev": np.std, "var": np.var,
    "mean_2der_central": lambda x: np.mean([(a + c) / 2 - b for a, b, c in zip(*moving(x, 1))]),
    "mean_abs_change": lambda x: np.mean([abs(b - a) for a, b in zip(x, x[1:])]),
    "mean_change": lambda x: (x[-1] - x[0]) / (len(x) - 1) if len(x) > 1 else math.nan,
    "num_crossing": lambda x, cross_val: sum((a > cross_val) != (b > cross_val)
                                             for a, b in zip(x, x[1:])),
    "num_cwt_peaks": cwt, "num_peaks": num_peaks, "part_auto_correlation": pacf,
    "per_recur_to_all_data": lambda x: np.mean(counted(x)[1] > 1),
    "per_recur_to_all_val": lambda x: sum(list(x).count(v) > 1 for v in x) / len(x),
    "quantile": lambda x, quantile: np.quantile(x, quantile),
    "range_count": lambda x, min_val, max_val: sum((x >= min_val) & (x < max_val)),
    "ratio_beyond_r_sigma": lambda x, r: np.mean(abs(x - x.mean()) > r * x.std()),
    "ratio_val_num_to_series_length": lambda x: len(set(x)) / len(x),
    "spkt_welch": spkt_welch,
    "sum_recurring_data_point": lambda x: sum(v * c for v, c in zip(*counted(x)) if c > 1),
    "sum_recurring_val": lambda x: sum(v for v, c in zip(*counted(x)) if c > 1),
    "symmetric_looking": lambda x, ratio: (abs(x.mean() - np.median(x)) <
                                           ratio * (max(x) - min(x))),
    "treverse_asym_stat": lambda x, lag: np.mean(
        [b * (a * a - c * c) for a, b, c in zip(*moving(x, lag))]) if len(x) > 2 * lag else 0,
    "val_count": lambda x, val: sum(x == val) if val == val else sum(np.isnan(x)),
    "var_above_std_dev": lambda x: np.var(x) > 1,
}
# Near zero their values are rounding errors of other sizes than the oracle's.
ANGLES = {"fft_coeff"}


def test_there_are_57_features_with_283_outputs():
    assert len(params.DEFAULTS) == 57 == len(ORACLES) and params.DEFAULTS.keys() == ORACLES.keys()
    assert sum(len(keys) for _, _, keys in params.calls(peach.fresh.parameters())) == 283
    plain = params.calls(peach.fresh.parameters("no_hyperparameters"))
    assert len(plain) == 36 and sum(len(keys) for _, _, keys in plain) == 46
    assert len(peach.fresh.parameters("classification")) == 47
    assert peach.fresh.alias("abs_energy") == "absEnergy"
    assert list(peach.fresh.parameters(["mean2DerCentral"])) == ["mean_2der_central"]


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_a_feature_against_its_oracle(series, name):
    x = np.ascontiguousarray(series)
    if name in ("num_cwt_peaks", "aug_fuller", "agg_auto_corr", "agg_lin_trend", "pacf"):
        x = x[:40]  # they are slow, the oracles too
    for _, arguments, keys in params.calls({name: params.DEFAULTS[name]}):
        got, wrong = features.compute(x, [(name, arguments, keys)])
        assert not wrong or name == "num_cwt_peaks"
        for row, values in zip(x, got):
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                try:
                    want = ORACLES[name](row, **arguments)
                except Exception:
                    assert name == "num_cwt_peaks"
                    want = math.nan
            want = [want[k] for k in keys] if isinstance(want, dict) else [want]
            for key, a, b in zip(keys, values, map(float, want)):
                if name == "fft_coeff" and key.startswith("angle"):
                    k = int(key.split("_")[1])
                    if values[keys.index(f"abs_{k}")] < 1e-9:
                        continue  # the angle of nothing
                    a, b = (a + 1e-6) % 360, (b + 1e-6) % 360
                size = max(1.0, abs(b) if math.isfinite(b) else 1.0)
                assert a == b or (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-9 * size, (
                    name, arguments, key, a, b)


def test_edge_cases_are_defined():
    chosen = params.calls(peach.fresh.parameters())
    names = [params.label("x", n, a, k) for n, a, ks in chosen for k in ks]

    def values(rows):
        got, _ = features.compute(np.array(rows, dtype=float), chosen)
        return dict(zip(names, got[0]))

    empty = values(np.empty((1, 0)))
    assert empty["x_count"] == 0 and empty["x_quantile_quantile_0o5"] == 0
    assert empty["x_treverse_asym_stat_lag_1"] == 0 and math.isnan(empty["x_mean"])
    assert empty["x_change_quant_lower_quant_0o1_upper_quant_0o9_is_abs_0_max"] == -INF
    assert empty["x_change_quant_lower_quant_0o1_upper_quant_0o9_is_abs_0_min"] == INF
    one = values([[5]])
    assert one["x_first_max"] == 0 and one["x_max"] == one["x_mean"] == 5
    assert math.isnan(one["x_mean_change"]) and one["x_lin_trend_slope"] == 0
    assert values([[1, 2]])["x_lin_trend_rvalue"] == pytest.approx(1)
    for row in ([[math.nan] * 5], [[1, math.nan, 3, 4, 1]]):
        some = values(row)
        assert some["x_count"] == 5 and math.isnan(some["x_mean"]) and math.isnan(some["x_max"])
        assert some["x_val_count_val_nan"] == np.isnan(row).sum()
        assert math.isnan(some["x_first_max"]) and math.isnan(some["x_med"])
    flat = values([[2] * 30])
    assert flat["x_skewness"] == flat["x_kurtosis"] == flat["x_cid_ce_is_abs_1"] == 0
    assert flat["x_agg_auto_corr_mean"] == 0 and flat["x_binned_entropy_num_bins_5"] == 0
    infinite = values([[1, INF, -INF, 2, 3]])
    assert infinite["x_val_count_val_inf"] == 1 and infinite["x_val_count_val_-inf"] == 1


def frame():
    pd = pytest.importorskip("pandas")
    x = digits()
    ids = np.repeat(np.arange(len(x)), 64)
    keep = (ids * 7 + np.tile(np.arange(64), len(x))) % 97 != 0  # series of 63 and 64 values
    return pd.DataFrame({"id": ids, "x": x.ravel(), "y": -x.ravel()**2})[keep]


def test_on_the_fleet_and_here_the_numbers_are_the_same(client):
    table = frame()
    wanted = ["mean", "quantile", "change_quant", "fft_coeff", "part_auto_correlation", "skewness"]
    default, peach._fleet._last = peach._fleet._last, lambda: None
    here = peach.fresh.create_features(table, "id", ["x", "y"], wanted)
    peach._fleet._last = default
    there = peach.fresh.create_features(table, "id", ["x", "y"], wanted, client=client)
    assert here.equals(there) and len(there) == 1000
    assert there.loc[3, "x_mean"] == table[table.id == 3].x.mean()
    plain = peach.fresh.create_features({k: table[k].to_numpy() for k in table}, "id", "x",
                                        ["max"], client=client)
    assert list(plain) == ["id", "x_max"] and (plain["x_max"] == 16).mean() > 0.5


def test_a_feature_that_fails_is_nan_and_one_warning(client, monkeypatch):
    def odd(x):
        if (x > 3).any():
            raise ValueError("too large")
        return x.sum(1)

    monkeypatch.setitem(features.FUNCTIONS, "mean", odd)
    table = {"id": [1, 1, 2, 2], "x": [1, 2, 3, 4]}
    for where in (client, None):
        with pytest.warns(UserWarning, match="mean failed.*too large") as caught:
            got = peach.fresh.create_features(table, "id", "x", ["mean", "max"], client=where)
        assert len(caught) == 1
        assert got["x_mean"][0] == 3 and math.isnan(got["x_mean"][1]) and got["x_max"][1] == 4


@pytest.mark.parametrize("arguments, text", [
    (("no", "x"), "no column 'no'"), (("id", "no"), "no column 'no'"),
    (("id", "x", "some"), "no set of features"), (("id", "x", ["energy"]), "no feature 'energy'"),
    (("id", "x", {"c3": {"k": [1]}}), "its parameters are lag"), (("id", "t"), "no numbers")])
def test_wrong_arguments_are_said(arguments, text):
    table = {"id": [1, 2], "x": [1.0, 2.0], "t": ["a", "b"]}
    with pytest.raises((ValueError, TypeError), match=text):
        peach.fresh.create_features(table, *arguments)


def test_p_values_and_selection(client):
    random = np.random.default_rng(1)
    n = 200
    target, classes = random.normal(size=n), random.integers(0, 2, n)
    table = {"real": target + random.normal(size=n), "noise": random.normal(size=n),
             "binary": (target > 0.3).astype(float), "constant": np.ones(n),
             "class": (classes ^ (random.random(n) < 0.1)).astype(float),
             "level": classes + random.normal(size=n)}

    def smirnov(a, b):
        return scipy_stats.kstwo.sf(scipy_stats.ks_2samp(a, b).statistic,
                                    math.ceil(len(a) * len(b) / (len(a) + len(b))))

    got = peach.fresh.p_values(table, target, client=client)
    assert math.isnan(got["constant"])
    assert got["real"] == pytest.approx(scipy_stats.kendalltau(table["real"], target)[1])
    one = table["binary"] == 1
    assert got["binary"] == pytest.approx(smirnov(target[~one], target[one]))
    got = peach.fresh.p_values(table, classes, client=client)
    counts = [[np.sum((table["class"] == i) & (classes == j)) for j in (1, 0)] for i in (1, 0)]
    assert got["class"] == pytest.approx(scipy_stats.fisher_exact(counts)[1])
    assert got["level"] == pytest.approx(
        smirnov(table["level"][classes == 0], table["level"][classes == 1]))
    keep = peach.fresh.significant_features
    assert "noise" not in keep(table, target, client=client)
    assert set(keep(table, target, client=client)) == {"real", "binary"}
    assert keep(table, target, peach.fresh.k_best(1), client=client) == ["binary"]
    assert len(keep(table, target, peach.fresh.percentile(0.5), client=client)) == 3


def test_the_two_rules_of_benjamini(client):
    p = np.array([0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.36])
    names = [str(i) for i in range(10)]
    order = np.argsort(p)
    harmonic = np.cumsum(1 / np.arange(1, 11))
    want = [names[i] for k, i in enumerate(order) if p[i] <= 0.3 * (k + 1) / (10 * harmonic[k])]
    assert peach.fresh.benj_hoch(0.3)(names, p) == want
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    for rate in (0.05, 0.2, 0.5):
        good = multitest.multipletests(p, rate, "fdr_by")[0]
        assert peach.fresh.benj_hoch(rate, step_up=True)(names, p) == [
            n for n, g in zip(names, good) if g]
