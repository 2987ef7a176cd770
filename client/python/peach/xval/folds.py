# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""What runs on the workers: it goes there by value."""


def fold_of(x, y, train, test):
    """((x_train, y_train), (x_test, y_test)) of row indices."""
    import numpy as np

    def rows(values, index):
        return values.iloc[index] if hasattr(values, "iloc") else np.asarray(values)[index]

    return (rows(x, train), rows(y, train)), (rows(x, test), rows(y, test))


def run_fold(function, x, y, train, test, params):
    fold = fold_of(x, y, train, test)
    return function(fold) if params is None else function(params)(fold)


class FitScore:
    """fit_score(estimator, params)(fold), to be sent."""

    def __init__(self, estimator, params=None):
        self.estimator = estimator
        self.params = params

    def fitted(self, train):
        estimator = made(self.estimator, self.params or {})
        estimator.fit(*train)
        return estimator

    def __call__(self, fold):
        train, test = fold
        return self.fitted(train).score(*test)


def made(estimator, params):
    """An estimator with these parameters, nobody else's."""
    import copy
    import importlib

    if isinstance(estimator, str):  # a function of a preload
        module, _, name = estimator.rpartition(".")
        if not module:
            raise ValueError(f"{estimator!r}: name the preload, too: script.function")
        estimator = getattr(importlib.import_module(module), name)
    if not hasattr(estimator, "fit"):
        return estimator(**params)
    if isinstance(estimator, type):
        return estimator(**params)
    copied = copy.deepcopy(estimator)
    return copied.set_params(**params) if params else copied
