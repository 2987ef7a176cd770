# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Cross-validation, grid and random search on a fleet.

    from peach import xval
    scores = xval.xv.kf_shuff(5, 1, x, y, xval.fit_score(SVC(), {"C": 10}))
    scores, best, held_out = xval.gs.kf_strat(5, 1, x, y, SVC(), {"C": [1, 10]}, test=0.2)
    scores = xval.rs.mc_split(0.2, 3, x, y, SVC(), {"p": {"C": ("loguniform", -2, 2)}})

xv, gs and rs have the splits kf_split, kf_shuff, kf_strat, ts_rolls, ts_chain, pc_split and
mc_split (see peach.xval.splits). All folds of all parameter sets are one map over the fleet
(peach.init, peach.connect); the data goes to each host once, and a task carries row numbers.
Without a fleet it runs here. The splits are drawn here, the same for every parameter set.
"""
from __future__ import annotations

import functools
import math
from typing import Any, Callable, NamedTuple

import numpy as np

from .. import _fleet
from .._functions import by_value_of
from . import folds, spaces, splits

__all__ = ["Searched", "fit_score", "gs", "rs", "xv"]


def fit_score(estimator, params: dict | None = None) -> Callable:
    """A function of a fold: fits on its training rows, and scores on its test rows.

    estimator: an object with fit, score and set_params, which is copied; a class or function
    that makes one of params; or the name of such a function in a preload of the workers
    ("script.make_model").
    """
    return folds.FitScore(estimator, params)


class Searched(NamedTuple):
    """scores: [(params, [score, ...]), ...]; best: the params of the best mean; held_out: the
    score on the rows held out of the best, fitted on all others."""

    scores: list
    best: dict
    held_out: float


def _run(function, x, y, made, sets, client, callback):
    """[[a result a fold] a set]; sets [None] for one without parameters."""
    calls = [(train, test, params) for params in sets for train, test in made]
    client = client or _fleet.default()
    if client is None:
        results = (folds.run_fold(function, x, y, *call) for call in calls)
    else:
        with by_value_of(folds):
            run, wanted = client.put(folds.run_fold), client.put(function)
        data = client.put(x), client.put(y)
        results = client.imap(lambda run, *args: run(*args), *zip(
            *((run, wanted, *data, *call) for call in calls)))
    table: list = []
    best = (-math.inf, None)
    for i, result in enumerate(results):
        if i % len(made) == 0:
            table.append([])
        table[-1].append(result)
        if callback is not None and len(table[-1]) == len(made):
            mean = float(np.mean(table[-1]))
            if mean > best[0]:
                best = mean, sets[len(table) - 1]
            callback(len(table), len(sets), best)
    return table


def _check(x, y):
    if len(x) != len(y):
        raise ValueError(f"x has {len(x)} rows and y {len(y)}")


def _validate(split, k, n, x, y, function, *, random_state=42, client=None):
    """One result of function a fold, n repetitions, in order.

    k: bins; of pc_split and mc_split the share that is held out. x (m, ...) and y (m,):
    arrays, or pandas. function(((x_train, y_train), (x_test, y_test))): see fit_score.
    """
    _check(x, y)
    made = splits.folds(split, k, n, y, random_state)
    return _run(function, x, y, made, [None], client, None)[0]


def _search(space_of, split, k, n, x, y, function, space, test=0, *, random_state=42,
            client=None, callback=None):
    """The scores of every parameter set on the same folds: [(params, [score, ...]), ...].

    function: an estimator (see fit_score), or a function that gives for params a function of
    a fold. test: 0; or the share of the rows, the last ones, that is held out of the search
    (negative: of shuffled rows): then Searched(scores, best, held_out) is returned.
    callback(sets done, sets, (best mean so far, its params)).
    """
    _check(x, y)
    if not abs(test) < 1:
        raise ValueError(f"test is the share that is held out, between -1 and 1, not {test}")
    sets = space_of(space)
    if hasattr(function, "fit") or isinstance(function, str):
        function = functools.partial(folds.FitScore, function)
    rows = np.arange(len(y))
    if test < 0:
        rows = splits.shuffled(len(y), random_state, 0)
    search, held = splits.divide(rows, abs(test))
    (sx, sy), (hx, hy) = folds.fold_of(x, y, search, held)
    made = splits.folds(split, k, n, sy, random_state)
    scores = list(zip(sets, _run(function, sx, sy, made, sets, client, callback)))
    if not test:
        return scores
    best = max(scores, key=lambda scored: np.mean(scored[1]))[0]
    everything = [(np.arange(len(search)), np.arange(len(search), len(y)))]
    both = folds.fold_of(x, y, np.concatenate([search, held]), [])[0]
    held_out = _run(function, *both, everything, [best], client, None)[0][0]
    return Searched(scores, best, held_out)


def _doc(run: Any) -> str:
    while isinstance(run, functools.partial):
        run = run.func
    return run.__doc__ or ""


class _Splits:
    """The splits as functions."""

    def __init__(self, name, run):
        self._name = name
        for split, documented in splits.SPLITS.items():
            function = functools.partial(run, split)
            function.__doc__ = f"{documented.__doc__}\n\n{_doc(run)}"
            setattr(self, split, function)

    def __repr__(self):
        return f"<peach.xval.{self._name}: {', '.join(splits.SPLITS)}>"


xv = _Splits("xv", _validate)
gs = _Splits("gs", functools.partial(_search, spaces.grid))
rs = _Splits("rs", functools.partial(_search, spaces.draw))
