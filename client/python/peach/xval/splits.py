# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Splits: for each fold the rows (indices, int64) that train and those that test.

Bin i of m rows in k is [floor(i m / k), floor((i + 1) m / k)). k-fold tests the last bin first,
and the training bins follow in a circle: k = 3 gives (0 1|2) (2 0|1) (1 2|0).
"""
from __future__ import annotations

import numpy as np

Fold = "tuple[np.ndarray, np.ndarray]"


def bins(rows, k: int) -> list:
    """The rows (m,) in k bins."""
    m = len(rows)
    edges = [i * m // k for i in range(k + 1)]
    return [rows[a:b] for a, b in zip(edges, edges[1:])]


def generator(random_state: int, repeat: int):
    """Random numbers of a repetition: the same whatever runs it."""
    return np.random.default_rng([random_state, repeat])


def k_fold(parts: list) -> list:
    k = len(parts)
    return [(np.concatenate([parts[(test + 1 + j) % k] for j in range(k - 1)]), parts[test])
            for test in reversed(range(k))]


def shuffled(m: int, random_state: int, repeat: int):
    return generator(random_state, repeat).permutation(m)


def kf_split(k, y, random_state, repeat):
    """k folds of rows in ascending order."""
    return k_fold(bins(np.arange(len(y)), k))


def kf_shuff(k, y, random_state, repeat):
    """k folds of shuffled rows."""
    return k_fold(bins(shuffled(len(y), random_state, repeat), k))


def kf_strat(k, y, random_state, repeat):
    """k folds with the classes of y spread evenly: each class is shuffled and dealt out."""
    order = shuffled(len(y), random_state, repeat)
    order = order[np.argsort(np.asarray(y)[order], kind="stable")]
    return k_fold([order[i::k] for i in range(k)])


def ts_rolls(k, y, random_state, repeat):
    """Train on bin i, test on bin i + 1: k - 1 folds."""
    parts = bins(np.arange(len(y)), k)
    return list(zip(parts, parts[1:]))


def ts_chain(k, y, random_state, repeat):
    """Train on bins 0 to i, test on bin i + 1: k - 1 folds."""
    parts = bins(np.arange(len(y)), k)
    return [(np.concatenate(parts[:i]), parts[i]) for i in range(1, k)]


def pc_split(share, y, random_state, repeat):
    """The last share of the rows is held out: one fold."""
    rows = np.arange(len(y))
    return [divide(rows, share)]


def mc_split(share, y, random_state, repeat):
    """The same of shuffled rows."""
    return [divide(shuffled(len(y), random_state, repeat), share)]


def divide(rows, share):
    at = len(rows) - int(round(len(rows) * share))
    return rows[:at], rows[at:]


SPLITS = {f.__name__: f for f in (kf_split, kf_shuff, kf_strat, ts_rolls, ts_chain, pc_split,
                                  mc_split)}
SHARES = {"pc_split", "mc_split"}


def folds(split: str, k, n: int, y, random_state: int = 42) -> list:
    """All folds of n repetitions, in order: [(train, test), ...].

    k: bins, or the share that pc_split and mc_split hold out. y (m,): the target. Repetition r
    draws from (random_state, r).
    """
    m = len(y)
    if split in SHARES:
        if not 0 < k < 1:
            raise ValueError(f"{split}: the share held out is between 0 and 1, not {k}")
    elif k != int(k) or not 2 <= k <= m:
        raise ValueError(f"{split}: {k} bins of {m} rows are not possible (2 to {m} are)")
    if n < 1:
        raise ValueError(f"{split}: n is the number of repetitions, at least 1, not {n}")
    made = [fold for repeat in range(n) for fold in SPLITS[split](k, y, random_state, repeat)]
    for train, test in made:
        if len(train) == 0 or len(test) == 0:
            raise ValueError(f"{split}: a fold of {m} rows is empty; take fewer bins, or another "
                             "share")
    return made
