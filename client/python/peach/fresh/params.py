# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""The features' parameters: which are computed, with what."""
from __future__ import annotations

import itertools

import numpy as np

from . import features

TENTHS = [i / 10 for i in range(1, 10)]
INF = float("inf")

# feature: parameters and their values; several parameters mean their cross product.
DEFAULTS: dict[str, dict[str, list]] = {name: {} for name in features.FUNCTIONS}
DEFAULTS.update({
    "agg_lin_trend": {"chunk_len": [5, 10, 50]},
    "auto_corr": {"lag": list(range(10))},
    "binned_entropy": {"num_bins": [2, 5, 10]},
    "c3": {"lag": [1, 2, 3]},
    "change_quant": {"lower_quant": [0.1, 0.2], "upper_quant": [0.9, 0.8], "is_abs": [0, 1]},
    "cid_ce": {"is_abs": [0, 1]},
    "e_ratio_by_chunk": {"num_seg": [3]},
    "fft_coeff": {"coeff": [10]},
    "index_mass_quantile": {"quantile": TENTHS},
    "largest_dev": {"ratio": [i / 20 for i in range(1, 20)]},
    "num_crossing": {"cross_val": [-1, 0, 1]},
    "num_cwt_peaks": {"width": [1, 5]},
    "num_peaks": {"support": [1, 3]},
    "part_auto_correlation": {"lag": [6]},
    "quantile": {"quantile": TENTHS},
    "range_count": {"min_val": [-1], "max_val": [1]},
    "ratio_beyond_r_sigma": {"r": [0.5, 1, 1.5, 2, 2.5, 3, 5, 6, 7, 10]},
    "spkt_welch": {"coeff": [2, 5, 7]},
    "symmetric_looking": {"ratio": [i / 20 for i in range(20)]},
    "treverse_asym_stat": {"lag": [1, 2, 3]},
    "val_count": {"val": [0, 1, float("nan"), INF, -INF]},
})

# The kdb+ toolkit's names where they are not the same in other letters.
ALIASES = {"mean2DerCentral": "mean_2der_central"}
# Those that come from Python libraries there.
PYTHON = {"agg_auto_corr", "aug_fuller", "fft_aggreg", "fft_coeff", "num_cwt_peaks",
          "part_auto_correlation", "spkt_welch"}
NOT_FOR_CLASSES = {"agg_lin_trend", "aug_fuller", "c3", "cid_ce", "lin_trend",
                   "mean_2der_central", "per_recur_to_all_data", "per_recur_to_all_val",
                   "symmetric_looking", "treverse_asym_stat"}


def alias(name: str) -> str:
    """The toolkit's name of a feature: absEnergy of abs_energy."""
    for theirs, ours in ALIASES.items():
        if ours == name:
            return theirs
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


BY_ALIAS = {alias(name): name for name in DEFAULTS}


def parameters(which=None) -> dict[str, dict[str, list]]:
    """{feature: {parameter: [values]}}, to be edited and given to create_features.

    which: None or "regression" for all features; "classification", "no_hyperparameters",
    "no_python"; a list of names (snake_case, or the kdb+ toolkit's); or such a dict, which is
    checked.
    """
    if which is None or which == "regression":
        names = list(DEFAULTS)
    elif which == "classification":
        names = [n for n in DEFAULTS if n not in NOT_FOR_CLASSES]
    elif which == "no_hyperparameters":
        names = [n for n, p in DEFAULTS.items() if not p]
    elif which == "no_python":
        names = [n for n in DEFAULTS if n not in PYTHON]
    elif isinstance(which, str):
        raise ValueError(f"{which!r} is no set of features: regression, classification, "
                         "no_hyperparameters or no_python, or a list of names")
    else:
        names = list(which)
    chosen = {}
    for name in names:
        ours = BY_ALIAS.get(name, name)
        if ours not in DEFAULTS:
            raise ValueError(f"there is no feature {name!r} (peach.fresh.parameters() has them)")
        given = which[name] if isinstance(which, dict) else None
        values = DEFAULTS[ours] if given is None else given
        wrong = values.keys() ^ DEFAULTS[ours].keys()
        if wrong:
            raise ValueError(f"{name}: its parameters are "
                             f"{', '.join(DEFAULTS[ours]) or 'none'}, not {', '.join(values)}")
        chosen[ours] = {p: list(np.atleast_1d(v).tolist()) for p, v in values.items()}
    return chosen


def calls(chosen: dict) -> list:
    """[(feature, {parameter: value}, keys), ...] as features.compute takes them."""
    probe = np.zeros((1, 1))
    made = []
    for name, values in chosen.items():
        for combination in itertools.product(*values.values()):
            arguments = dict(zip(values, combination))
            made.append((name, arguments, keys_of(name, arguments, probe)))
    return made


def keys_of(name, arguments, probe):
    if name == "aug_fuller":  # not run here: it imports statsmodels
        return ["teststat", "pvalue", "usedlag"]
    if name in ("num_cwt_peaks", "spkt_welch"):  # nor these: scipy
        return [None]
    with np.errstate(all="ignore"):
        return [key for key, _ in features.columns(features.FUNCTIONS[name](probe, **arguments))]


def label(column: str, name: str, arguments: dict, key: str | None) -> str:
    """column_feature_parameter_value_key, with "o" for the point of a value."""
    parts = [column, name]
    for parameter, value in arguments.items():
        parts += [parameter, f"{value:g}".replace(".", "o")]
    return "_".join(parts + ([key] if key else []))
