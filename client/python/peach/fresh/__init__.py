# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""FRESH: features of time series, extracted on a fleet, and the significant ones of them.

    table = peach.fresh.create_features(frame, "id", ["x", "y"])
    table = table[peach.fresh.significant_features(table, target)]

The features and selection rules are those of the kdb+ machine-learning toolkit. With a fleet
(peach.init, peach.connect) the work is spread over it by columns and groups of ids; without
one it runs here. The numbers are the same.
"""
from __future__ import annotations

import warnings

import numpy as np

from .. import _fleet
from .._functions import by_value_of
from . import features
from .params import DEFAULTS, alias, calls, label, parameters
from .select import benj_hoch, k_best, p_values, percentile, significant_features

__all__ = ["DEFAULTS", "alias", "benj_hoch", "create_features", "k_best", "p_values",
           "parameters", "percentile", "significant_features"]

BLOCK = 1 << 15  # values that go to a worker at a time


def create_features(table, id_columns, value_columns=None, params=None, *, client=None):
    """One row an id: every feature of every value column.

    table: a pandas DataFrame, or a dict of arrays (n,). id_columns: a name or a list of them;
    rows of one id are one series, in their order. value_columns: a name or a list (default:
    all others). params: see parameters(). client: the fleet (default: the one there is).

    Returns a DataFrame with the ids as its index, in ascending order, and columns such as
    x_quantile_quantile_0o1; of a dict a dict: id columns first, then float64 arrays (ids,). A
    feature that fails on a series is NaN there, with one warning.
    """
    ids, values = _columns(table, id_columns, value_columns)
    chosen = calls(parameters(params))
    found, starts, lengths, order = _groups(ids, len(next(iter(values.values()))))
    blocks = [(name, rows, matrix) for name, x in values.items()
              for rows, matrix in _blocks(x[order], starts, lengths)]
    client = client or _fleet.default()
    if client is None:
        done = [features.compute(matrix, chosen) for _, _, matrix in blocks]
    else:
        with by_value_of(features):
            compute = client.put(features.compute)
        wanted = client.put(chosen)
        done = client.starmap(lambda run, matrix, calls: run(matrix, calls),
                              [(compute, matrix, wanted) for _, _, matrix in blocks])
    wrong: dict = {}
    width = sum(len(keys) for _, _, keys in chosen)
    results = {name: np.full((len(starts), width), np.nan) for name in values}
    for (name, rows, _), (part, failed) in zip(blocks, done):
        results[name][rows] = part
        wrong.update(failed)
    for feature, why in wrong.items():
        warnings.warn(f"{feature} failed on some series and is NaN there: {why}", stacklevel=2)
    outputs = [(feature, arguments, key) for feature, arguments, keys in chosen for key in keys]
    named = {label(name, *output): results[name][:, i]
             for name in values for i, output in enumerate(outputs)}
    return _table(table, id_columns, found, named)


def _columns(table, id_columns, value_columns):
    id_columns = [id_columns] if isinstance(id_columns, str) else list(id_columns)
    known = list(table.columns) if hasattr(table, "columns") else list(table)
    if value_columns is None:
        value_columns = [name for name in known if name not in id_columns]
    value_columns = [value_columns] if isinstance(value_columns, str) else list(value_columns)
    missing = [name for name in [*id_columns, *value_columns] if name not in known]
    if missing or not id_columns or not value_columns:
        raise ValueError(f"there is no column {', '.join(map(repr, missing))}" if missing else
                         "an id column and a value column are needed")
    ids = [np.asarray(table[name]) for name in id_columns]
    values = {}
    for name in value_columns:
        try:
            values[name] = np.asarray(table[name], dtype=np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"column {name!r} has values that are no numbers") from None
    lengths = {len(column) for column in [*ids, *values.values()]}
    if len(lengths) != 1:
        raise ValueError(f"the columns differ in length: {sorted(lengths)}")
    return ids, values


def _groups(ids, count):
    """The distinct ids, where each begins among the sorted rows, its rows, and their order."""
    codes = np.zeros(count, dtype=np.int64)
    for column in ids:
        distinct, code = np.unique(column, return_inverse=True)
        codes = codes * len(distinct) + code
    order = np.argsort(codes, kind="stable")
    _, starts, lengths = np.unique(codes[order], return_index=True, return_counts=True)
    keys = [column[order][starts] for column in ids]
    return keys, starts, lengths, order


def _blocks(x, starts, lengths):
    """(rows, matrix) of series of one length, a block at a time."""
    for n in np.unique(lengths):
        rows = np.flatnonzero(lengths == n)
        step = max(1, BLOCK // int(n))
        for first in range(0, len(rows), step):
            some = rows[first:first + step]
            yield some, x[starts[some][:, None] + np.arange(n)]


def _table(table, id_columns, keys, named):
    id_columns = [id_columns] if isinstance(id_columns, str) else list(id_columns)
    if not hasattr(table, "columns"):
        return {**dict(zip(id_columns, keys)), **named}
    import pandas

    index = (pandas.Index(keys[0], name=id_columns[0]) if len(keys) == 1 else
             pandas.MultiIndex.from_arrays(keys, names=id_columns))
    return pandas.DataFrame(named, index=index)
