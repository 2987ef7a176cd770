# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Which features have to do with a target: a test for each, and rules that choose."""
from __future__ import annotations

import math
import sys
from typing import Callable

import numpy as np

from .. import _fleet
from .._functions import by_value_of


def p_value(feature, target) -> float:
    """The p-value of a feature (n,) against a target (n,); NaN when it has one value only,
    or has NaN.

    Both binary: Fisher's exact test. One of them: Kolmogorov and Smirnov's, two-sided, of the
    other one's two halves. None: Kendall's tau.
    """
    import numpy as np
    from scipy import stats

    def halves(values, by):
        low, high = np.unique(by)
        return np.sort(values[by == low]), np.sort(values[by == high])

    def smirnov(a, b):
        both = np.concatenate([a, b])
        gap = np.abs(np.searchsorted(a, both, "right") / len(a) -
                     np.searchsorted(b, both, "right") / len(b)).max()
        return float(stats.kstwo.sf(gap, np.ceil(len(a) * len(b) / (len(a) + len(b)))))

    feature, target = np.asarray(feature, dtype=float), np.asarray(target, dtype=float)
    kinds, targets = len(np.unique(feature)), len(np.unique(target))
    if kinds < 2 or targets < 2 or np.isnan(feature).any() or np.isnan(target).any():
        return float("nan")
    if kinds == 2 and targets == 2:
        a, b = feature == feature.max(), target == target.max()
        counts = [[np.sum(a & b), np.sum(a & ~b)], [np.sum(~a & b), np.sum(~a & ~b)]]
        return float(stats.fisher_exact(counts)[1])
    if targets == 2:
        return smirnov(*halves(feature, target))
    if kinds == 2:
        return smirnov(*halves(target, feature))
    return float(stats.kendalltau(feature, target)[1])


def p_values(features, target, *, client=None) -> dict[str, float]:
    """{name: p-value} of a DataFrame's columns, or a dict's arrays (n,)."""
    names = list(features.columns) if hasattr(features, "columns") else list(features)
    target = np.asarray(target, dtype=float)
    columns = [np.asarray(features[name], dtype=float) for name in names]
    for name, column in zip(names, columns):
        if column.shape != target.shape:
            raise ValueError(f"{name} has {column.shape} values and the target {target.shape}")
    client = client or _fleet.default()
    if client is None:
        found = [p_value(column, target) for column in columns]
    else:
        wanted = client.put(target)
        with by_value_of(sys.modules[__name__]):
            test = client.put(p_value)
        found = client.starmap(lambda test, column, target: test(column, target),
                               [(test, column, wanted) for column in columns])
    return dict(zip(names, found))


def benj_hoch(rate: float = 0.05, *, step_up: bool = False) -> Callable:
    """Keeps every k-th smallest p-value with p <= rate k / (n H), H = 1 + 1/2 + ... + 1/n.

    That is the kdb+ toolkit's rule, with H up to k; step_up gives that of Benjamini and
    Yekutieli, as statsmodels has it.
    """

    def rule(names, p):
        order = np.argsort(p, kind="stable")
        n = len(p)
        k = np.arange(1, n + 1)
        harmonic = np.cumsum(1.0 / k)
        good = p[order] <= rate * k / (n * (harmonic[-1] if step_up and n else harmonic))
        if step_up:
            last = np.flatnonzero(good)
            good = k <= (last[-1] + 1 if len(last) else 0)
        return [names[i] for i in order[good]]

    return rule


def k_best(k: int) -> Callable:
    """Keeps the k smallest p-values."""
    return lambda names, p: [names[i] for i in np.argsort(p, kind="stable")[:k]]


def percentile(p: float) -> Callable:
    """Keeps the p-values up to their p-th percentile (0 to 1)."""
    return lambda names, values: [
        names[i] for i in np.argsort(values, kind="stable")
        if values[i] <= np.quantile(values, p)]


def significant_features(features, target, select: Callable | None = None, *,
                         client=None) -> list[str]:
    """The names of the features that select keeps, the smallest p-value first.

    select: benj_hoch(rate) (the default, rate 0.05), k_best(k), percentile(p), or a function
    of the names and their p-values (n,). Features without a p-value are not kept.
    """
    known = {name: p for name, p in p_values(features, target, client=client).items()
             if not math.isnan(p)}
    return (select or benj_hoch())(list(known), np.array(list(known.values())))
