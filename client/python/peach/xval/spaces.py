# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Spaces of parameters: grids, random draws, Sobol sequences."""
from __future__ import annotations

import itertools
import warnings

import numpy as np

KINDS = ("uniform", "loguniform", "rand", "symbol", "boolean")


def grid(values: dict) -> list[dict]:
    """Every combination of {name: [values]}."""
    if not values:
        raise ValueError("a grid needs parameters: {name: [values]}")
    for name, choices in values.items():
        if isinstance(choices, str) or not hasattr(choices, "__iter__"):
            raise ValueError(f"grid: the values of {name!r} are to be a list, not {choices!r}")
    return [dict(zip(values, chosen)) for chosen in itertools.product(*values.values())]


def draw(space: dict) -> list[dict]:
    """The parameter sets of a space, the same for the same random_state.

    space: {"kind": "random" or "sobol", "random_state": 42, "n": 16, "p": {name: how}}; how is
    ("uniform", low, high, type), ("loguniform", low, high, type) with low and high as powers
    of ten, ("rand", values) or ("symbol", values), or "boolean". type is int or float (or
    their names); it may be left out for float. Sets that come twice are dropped, with a
    warning.
    """
    unknown = space.keys() - {"kind", "random_state", "n", "p"}
    if unknown:
        raise ValueError(f"space: there is no {', '.join(sorted(unknown))} (kind, random_state, "
                         "n, p)")
    kind, n = space.get("kind", "random"), space.get("n", 16)
    state, hows = space.get("random_state", 42), space.get("p")
    if not hows:
        raise ValueError("space: p is missing: {name: how}")
    if n < 1 or n != int(n):
        raise ValueError(f"space: n is the number of sets, not {n}")
    hows = {name: check(name, how) for name, how in hows.items()}
    if kind == "random":
        points = np.random.default_rng(state).random((n, len(hows)))
    elif kind == "sobol":
        if n & (n - 1):
            raise ValueError(f"sobol: n must be a power of two, and {n} is none (the next is "
                             f"{1 << n.bit_length()})")
        from scipy.stats import qmc

        points = qmc.Sobol(len(hows), seed=state).random_base2(n.bit_length() - 1)
    else:
        raise ValueError(f"space: kind is random or sobol, not {kind!r}")
    sets = [{name: value(how, u) for (name, how), u in zip(hows.items(), row)} for row in points]
    distinct = list({repr(s): s for s in sets}.values())
    if len(distinct) < len(sets):
        warnings.warn(f"{len(sets) - len(distinct)} of {len(sets)} parameter sets came twice and "
                      "were dropped", stacklevel=4)
    return distinct


def check(name, how):
    how = (how,) if isinstance(how, str) else tuple(how)
    kind = how[0] if how else None
    if kind not in KINDS:
        raise ValueError(f"space: {name!r} is drawn by one of {', '.join(KINDS)}, not {kind!r}")
    if kind in ("uniform", "loguniform"):
        if len(how) == 3:
            how += (float,)
        types = {"int": int, "float": float, int: int, float: float}
        if len(how) != 4 or how[3] not in types or not how[1] < how[2]:
            raise ValueError(f"space: {name!r} is to be ({kind!r}, low, high, int or float)")
        return (*how[:3], types[how[3]])
    if kind != "boolean" and (len(how) != 2 or not len(how[1])):
        raise ValueError(f"space: {name!r} is to be ({kind!r}, values)")
    return how


def value(how, u: float):
    """The value at u in [0, 1)."""
    if how[0] == "boolean":
        return bool(u < 0.5)
    if how[0] in ("rand", "symbol"):
        return how[1][int(u * len(how[1]))]
    _, low, high, make = how
    if how[0] == "loguniform":
        low, high = 10.0**low, 10.0**high
        drawn = float(low * (high / low)**u)
    else:
        drawn = low + (high - low) * float(u)
    return int(np.floor(drawn + 0.5)) if make is int else drawn
