# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""The features: each over many series of one length at a time.

A feature is a function of a matrix x, float64 of shape (m, n): m series of n values, n >= 1,
and of its parameters. It returns an array (m,), or a dict {key: (m,)}. NaN where a value is
undefined, and in general where a series has NaN. var and std are population (ddof 0).
The names in brackets are those of the kdb+ toolkit, whose definitions these are.

This module goes to the workers by value: it imports numpy alone, and scipy and statsmodels
where a feature needs them.
"""
import numpy as np


def spread(x):
    return x.max(1) - x.min(1)


def ratio(a, b):
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.true_divide(a, b)


def nan(x):
    return np.full(len(x), np.nan)


def centred(x):
    return x - x.mean(1, keepdims=True)


# ---- sizes and sums ----


def abs_energy(x):
    return (x * x).sum(1)


def abs_sum_change(x):
    return np.abs(np.diff(x)).sum(1)


def count(x):
    return np.full(len(x), float(x.shape[1]))


def count_above_mean(x):
    return (x > x.mean(1, keepdims=True)).sum(1)


def count_below_mean(x):
    return (x < x.mean(1, keepdims=True)).sum(1)


def maximum(x):
    return x.max(1)


def minimum(x):
    return x.min(1)


def mean(x):
    return x.mean(1)


def med(x):
    return np.median(x, 1)


def sum_val(x):
    return x.sum(1)


def var(x):
    return x.var(1)


def std_dev(x):
    return x.std(1)


def var_above_std_dev(x):
    return x.var(1) > 1


def mean_abs_change(x):
    return np.abs(np.diff(x)).mean(1) if x.shape[1] > 1 else nan(x)


def mean_change(x):
    n = x.shape[1]
    return (x[:, -1] - x[:, 0]) / (n - 1) if n > 1 else nan(x)


def mean_2der_central(x):
    if x.shape[1] < 3:
        return nan(x)
    return (0.5 * (x[:, 2:] + x[:, :-2]) - x[:, 1:-1]).mean(1)


def skewness(x):
    n = x.shape[1]
    if n < 3:
        return nan(x)
    d = centred(x)
    m2, m3 = (d**2).mean(1), (d**3).mean(1)
    value = np.sqrt(n * (n - 1.0)) / (n - 2) * ratio(m3, m2**1.5)
    return np.where(constant(x), 0.0, value)


def kurtosis(x):
    n = x.shape[1]
    if n < 4:
        return nan(x)
    d = centred(x)
    m2, m4 = (d**2).mean(1), (d**4).mean(1)
    value = (n - 1.0) / ((n - 2) * (n - 3)) * ((n + 1) * ratio(m4, m2 * m2) - 3 * (n - 1))
    return np.where(constant(x), 0.0, value)


def constant(x):
    return (x == x[:, :1]).all(1)


# ---- places and runs ----


def place(x, found):
    """found / n; NaN where a series has NaN."""
    return np.where(np.isnan(x).any(1), np.nan, found / x.shape[1])


def first_max(x):
    return place(x, x.argmax(1))


def first_min(x):
    return place(x, x.argmin(1))


def last_max(x):
    return place(x, x.shape[1] - 1 - x[:, ::-1].argmax(1))


def last_min(x):
    return place(x, x.shape[1] - 1 - x[:, ::-1].argmin(1))


def index_mass_quantile(x, quantile):
    mass = np.abs(x).cumsum(1)
    total = mass[:, -1:]
    found = (mass >= quantile * total).argmax(1) + 1
    return np.where((total[:, 0] > 0) & np.isfinite(total[:, 0]), found / x.shape[1], np.nan)


def longest_run(flags):
    run = best = np.zeros(len(flags))
    for column in flags.T:
        run = np.where(column, run + 1, 0)
        best = np.maximum(best, run)
    return best


def long_strike_above_mean(x):
    return longest_run(x > x.mean(1, keepdims=True))


def long_strike_below_mean(x):
    return longest_run(x < x.mean(1, keepdims=True))


def num_crossing(x, cross_val):
    return (np.diff((x > cross_val).astype(np.int8)) != 0).sum(1)


def num_peaks(x, support):
    n = x.shape[1]
    if n <= 2 * support:
        return np.zeros(len(x))
    inner = x[:, support:n - support]
    peak = np.ones(inner.shape, bool)
    for k in range(1, support + 1):
        peak &= inner > x[:, support - k:n - support - k]
        peak &= inner > x[:, support + k:n - support + k]
    return peak.sum(1)


def num_cwt_peaks(x, width):
    from scipy.signal import find_peaks_cwt

    widths = np.arange(1, width + 1)
    return np.array([float(len(find_peaks_cwt(row, widths))) for row in x])


def range_count(x, min_val, max_val):
    return ((x >= min_val) & (x < max_val)).sum(1)


def val_count(x, val):
    return (np.isnan(x) if np.isnan(val) else x == val).sum(1)


# ---- values that recur. NaN is a value like the others ----


def recurrence(x):
    """Sorted values; whether each is the first of its kind; how often its kind occurs."""
    s = np.sort(x, 1)
    with np.errstate(invalid="ignore"):
        same = (s[:, 1:] == s[:, :-1]) | (np.isnan(s[:, 1:]) & np.isnan(s[:, :-1]))
    first = np.ones(s.shape, bool)
    first[:, 1:] = ~same
    recurs = np.zeros(s.shape, bool)
    recurs[:, 1:] |= same
    recurs[:, :-1] |= same
    return s, first, recurs


def has_dup(x):
    return recurrence(x)[2].any(1)


def has_dup_max(x):
    return (x == x.max(1, keepdims=True)).sum(1) > 1


def has_dup_min(x):
    return (x == x.min(1, keepdims=True)).sum(1) > 1


def per_recur_to_all_data(x):
    _, first, recurs = recurrence(x)
    return (first & recurs).sum(1) / first.sum(1)


def per_recur_to_all_val(x):
    return recurrence(x)[2].mean(1)


def ratio_val_num_to_series_length(x):
    return recurrence(x)[1].sum(1) / x.shape[1]


def sum_recurring_data_point(x):
    s, _, recurs = recurrence(x)
    return np.where(recurs, s, 0.0).sum(1)


def sum_recurring_val(x):
    s, first, recurs = recurrence(x)
    return np.where(first & recurs, s, 0.0).sum(1)


# ---- distribution ----


def binned_entropy(x, num_bins):
    """Bins as numpy.histogram has them."""
    low, high = x.min(1, keepdims=True), x.max(1, keepdims=True)
    width = high - low
    good = np.isfinite(width[:, 0])
    flat = width[:, 0] == 0
    edges = np.linspace(low[:, 0], high[:, 0], num_bins + 1, axis=1)
    with np.errstate(all="ignore"):
        index = ((x - low) / np.where(width == 0, 1, width) * num_bins)
    index = np.clip(np.nan_to_num(index), 0, num_bins - 1).astype(int)
    rows = np.arange(len(x))[:, None]
    index -= (x < edges[rows, index]) & (index > 0)
    index += (x >= edges[rows, index + 1]) & (index < num_bins - 1)
    counts = np.zeros((len(x), num_bins))
    np.add.at(counts, (rows, index), 1.0)
    p = counts / x.shape[1]
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0).sum(1)
    return np.where(good, np.where(flat, 0.0, entropy), np.nan)


def quantile(x, quantile):
    return np.quantile(x, quantile, axis=1)


def largest_dev(x, ratio):
    return x.std(1) > ratio * spread(x)


def symmetric_looking(x, ratio):
    return np.abs(x.mean(1) - np.median(x, 1)) < ratio * spread(x)


def ratio_beyond_r_sigma(x, r):
    return (np.abs(centred(x)) > r * x.std(1, keepdims=True)).mean(1)


def change_quant(x, lower_quant, upper_quant, is_abs):
    """max -inf, min inf and the rest NaN where no difference lies in the corridor."""
    low = np.quantile(x, lower_quant, axis=1)[:, None]
    high = np.quantile(x, upper_quant, axis=1)[:, None]
    inside = (x >= low) & (x <= high)
    both = inside[:, 1:] & inside[:, :-1]
    d = np.diff(x)
    if is_abs:
        d = np.abs(d)
    many = both.sum(1)
    average = ratio(np.where(both, d, 0.0).sum(1), many)
    off = np.where(both, d - average[:, None], 0.0)
    variance = ratio((off * off).sum(1), many)
    order = np.sort(np.where(both, d, np.inf), 1)
    if order.shape[1]:
        rows = np.arange(len(x))
        top = np.maximum(many - 1, 0)
        middle = (order[rows, top // 2] + order[rows, (top + 1) // 2]) / 2
    else:
        middle = nan(x)
    median = np.where(many > 0, middle, np.nan)
    return {"max": np.where(both, d, -np.inf).max(1, initial=-np.inf),
            "min": np.where(both, d, np.inf).min(1, initial=np.inf),
            "mean": average, "variance": variance, "median": median, "std": np.sqrt(variance)}


# ---- time ----


def auto_covariance(x):
    """At lags 0..n-1, over the pairs that there are (adjusted), through the FFT."""
    n = x.shape[1]
    size = 1 << (2 * n - 1).bit_length()
    f = np.fft.rfft(centred(x), size)
    return np.fft.irfft(f * f.conj(), size)[:, :n] / np.arange(n, 0, -1)


def agg_auto_corr(x):
    flat = (x.var(1) < 1e-10) | (x.shape[1] == 1)
    if x.shape[1] == 1:
        r = np.zeros((len(x), 1))
    else:
        c = auto_covariance(x)
        r = ratio(c[:, 1:], c[:, :1])
    r = np.where(flat[:, None], 0.0, r)
    return {"mean": r.mean(1), "variance": r.var(1), "median": np.median(r, 1), "std": r.std(1)}


def auto_corr(x, lag):
    n = x.shape[1]
    if lag == 0:
        return np.where(np.isnan(x).any(1), np.nan, 1.0)
    if lag >= n:
        return nan(x)
    d = centred(x)
    return ratio((d[:, lag:] * d[:, :-lag]).mean(1), np.where(constant(x), 0.0, x.var(1)))


def part_auto_correlation(x, lag):
    """Levinson and Durbin, of the adjusted autocovariances (statsmodels: method ld)."""
    n = x.shape[1]
    known = min(lag, n - 1)
    result = {str(k): nan(x) for k in range(1, lag + 1)}
    if known < 1:
        return result
    c = auto_covariance(x)[:, :known + 1]
    c[constant(x)] = 0.0
    with np.errstate(divide="ignore", invalid="ignore"):
        phi = (c[:, 1] / c[:, 0])[:, None]
        result["1"] = phi[:, 0]
        error = c[:, 0] - phi[:, 0] * c[:, 1]
        for k in range(2, known + 1):
            last = (c[:, k] - (phi * c[:, k - 1:0:-1]).sum(1)) / error
            phi = np.hstack([phi - last[:, None] * phi[:, ::-1], last[:, None]])
            error = error * (1 - last * last)
            result[str(k)] = last
    return result


def c3(x, lag):
    n = x.shape[1]
    if n <= 2 * lag:
        return nan(x)
    return (x[:, 2 * lag:] * x[:, lag:n - lag] * x[:, :n - 2 * lag]).mean(1)


def treverse_asym_stat(x, lag):
    n = x.shape[1]
    if n <= 2 * lag:
        return np.zeros(len(x))
    late, middle, early = x[:, 2 * lag:], x[:, lag:n - lag], x[:, :n - 2 * lag]
    return (middle * (late * late - early * early)).mean(1)


def cid_ce(x, is_abs):
    if is_abs:
        deviation = x.std(1, keepdims=True)
        flat = constant(x)
        x = ratio(centred(x), deviation)
        x[flat] = 0.0
    d = np.diff(x)
    return np.sqrt((d * d).sum(1))


def e_ratio_by_chunk(x, num_seg):
    energy = x * x
    total = energy.sum(1)
    parts = np.array_split(energy, num_seg, axis=1)
    return {f"chunk_{i}": ratio(part.sum(1), total) for i, part in enumerate(parts)}


def line(y):
    """slope, intercept, rvalue of y against 0..n-1; 0 for what is undefined."""
    n = y.shape[1]
    if n < 2:
        zero = np.zeros(len(y))
        return {"slope": zero, "intercept": zero, "rvalue": zero}
    t = np.arange(n) - (n - 1) / 2
    d = centred(y)
    tt, ty, yy = (t * t).sum(), (d * t).sum(1), (d * d).sum(1)
    flat = constant(y)
    slope = np.where(flat, 0.0, ty / tt)
    r = np.where(flat, 0.0, ratio(ty, np.sqrt(tt * yy)))
    return {"slope": slope, "intercept": y.mean(1) - slope * (n - 1) / 2, "rvalue": r}


def lin_trend(x):
    return line(x)


def agg_lin_trend(x, chunk_len):
    n = x.shape[1]
    full = n // chunk_len * chunk_len
    chunks = x[:, :full].reshape(len(x), -1, chunk_len)
    result = {}
    for name in ("max", "min", "var", "mean"):
        parts = getattr(chunks, name)(axis=2) if full else np.empty((len(x), 0))
        if full < n:
            parts = np.column_stack([parts, getattr(x[:, full:], name)(axis=1)])
        result.update({f"{name}_{key}": value for key, value in line(parts).items()})
    return result


def aug_fuller(x):
    from statsmodels.tsa.stattools import adfuller

    result = np.full((len(x), 3), np.nan)
    for i, row in enumerate(x):
        try:
            result[i] = adfuller(row)[:3]
        except Exception:  # too short, constant, or not finite: undefined
            pass
    return {"teststat": result[:, 0], "pvalue": result[:, 1], "usedlag": result[:, 2]}


# ---- frequency ----


def fft_aggreg(x):
    a = np.abs(np.fft.rfft(x))
    total = a.sum(1)
    k = np.arange(a.shape[1], dtype=float)
    m1, m2, m3, m4 = (ratio((a * k**p).sum(1), total) for p in (1, 2, 3, 4))
    variance = m2 - m1**2
    wide = np.where(variance >= 0.5, variance, np.nan)
    return {"centroid": m1, "variance": variance,
            "skew": (m3 - 3 * m1 * variance - m1**3) / wide**1.5,
            # The toolkit's own, kept for equal numbers; it is not the fourth central moment.
            "kurtosis": (m4 - 4 * m1 * (m3 - 3 * m1) + 6 * m2 * m1**2) / wide**2}


def fft_coeff(x, coeff):
    f = np.fft.rfft(x)[:, :coeff]
    # Of arrays that are contiguous numpy computes the same wherever they are in memory.
    real, imag = np.ascontiguousarray(f.real.T), np.ascontiguousarray(f.imag.T)
    parts = {"angle": np.degrees(np.arctan2(imag, real)), "real": real, "imag": imag,
             "abs": np.hypot(real, imag)}
    return {f"{name}_{k}": part[k] if k < len(part) else nan(x)
            for name, part in parts.items() for k in range(coeff)}


def spkt_welch(x, coeff):
    from scipy.signal import welch

    power = welch(x, nperseg=min(256, x.shape[1]), axis=1)[1]
    return power[:, coeff] if coeff < power.shape[1] else nan(x)


# ---- one batch ----

# Of a series without values; what is not here is NaN.
EMPTY = {"count": 0.0, "abs_energy": 0.0, "abs_sum_change": 0.0, "sum_val": 0.0,
         "count_above_mean": 0.0, "count_below_mean": 0.0, "has_dup": 0.0, "has_dup_max": 0.0,
         "has_dup_min": 0.0, "long_strike_above_mean": 0.0, "long_strike_below_mean": 0.0,
         "num_crossing": 0.0, "num_cwt_peaks": 0.0, "num_peaks": 0.0, "range_count": 0.0,
         "val_count": 0.0, "quantile": 0.0, "treverse_asym_stat": 0.0,
         "sum_recurring_data_point": 0.0, "sum_recurring_val": 0.0}

FUNCTIONS = {f.__name__: f for f in (
    abs_energy, abs_sum_change, agg_auto_corr, agg_lin_trend, aug_fuller, auto_corr,
    binned_entropy, c3, change_quant, cid_ce, count, count_above_mean, count_below_mean,
    e_ratio_by_chunk, fft_aggreg, fft_coeff, first_max, first_min, has_dup, has_dup_max,
    has_dup_min, index_mass_quantile, kurtosis, largest_dev, last_max, last_min, lin_trend,
    long_strike_above_mean, long_strike_below_mean, mean, mean_2der_central, mean_abs_change,
    mean_change, med, num_crossing, num_cwt_peaks, num_peaks, part_auto_correlation,
    per_recur_to_all_data, per_recur_to_all_val, quantile, range_count, ratio_beyond_r_sigma,
    ratio_val_num_to_series_length, skewness, spkt_welch, std_dev, sum_recurring_data_point,
    sum_recurring_val, sum_val, symmetric_looking, treverse_asym_stat, val_count, var,
    var_above_std_dev)}
FUNCTIONS.update(max=maximum, min=minimum)


def columns(result):
    """(key or None, values) of what a feature returned."""
    return result.items() if isinstance(result, dict) else [(None, result)]


def compute(x, calls):
    """(matrix (m, outputs), {feature: what went wrong}).

    calls: [(feature, {parameter: value}, [key or None, ...]), ...]. A feature that fails is
    tried on each series alone, so that the one that makes it fail is NaN, and no other.
    """
    x = np.array(x, dtype=np.float64, order="C")
    parts, wrong = [], {}
    with np.errstate(all="ignore"):
        for name, parameters, keys in calls:
            if x.shape[1] == 0:
                parts.append(np.full((len(x), len(keys)), EMPTY.get(name, np.nan)))
                if name == "change_quant":
                    parts[-1][:, :2] = -np.inf, np.inf
                continue
            try:
                parts.append(run(name, x, parameters, keys))
                continue
            except Exception as error:
                wrong[name] = f"{type(error).__name__}: {error}"
            rows = np.full((len(x), len(keys)), np.nan)
            for i in range(len(x)):
                try:
                    rows[i] = run(name, x[i:i + 1], parameters, keys)
                except Exception:  # told of above
                    pass
            parts.append(rows)
    return np.hstack(parts), wrong


def run(name, x, parameters, keys):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = dict(columns(FUNCTIONS[name](x, **parameters)))
    return np.column_stack([np.asarray(found[key], dtype=float) for key in keys])
