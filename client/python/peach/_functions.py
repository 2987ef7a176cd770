# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""Functions on their way to the fleet: by name, or by value under a number.

A function by value is put once for as long as it means the same: what it refers to is
compared, and what cannot be compared is pickled again (equal bytes are put once).
"""
from __future__ import annotations

import contextlib
import json
import platform
import sys
import types

from ._pickle import by_value

VALUE, EXACT, OBJECT = range(3)  # python_form_t of worker/python/value.h
MAX_NAME = 255
MOST = 1024  # functions that are kept
PLAIN = (int, float, complex, str, bytes, bool, type(None), type, types.ModuleType,
         types.BuiltinFunctionType)


def is_importable(function) -> bool:
    """Whether pickle sends its name instead of itself."""
    module = sys.modules.get(getattr(function, "__module__", None) or "")
    if module is None or module.__name__ == "__main__" or module.__name__ in by_value():
        return False
    for part in function.__qualname__.split("."):
        module = getattr(module, part, None)
    return module is function


class Meaning:
    """What a function refers to: the same objects mean the same function."""

    __slots__ = ("itself", "scope", "defaults", "cells", "names", "inner")

    def __init__(self, function, depth: int = 0):
        """Raises Unstable when that can change unseen."""
        self.itself = None
        if is_importable(function):
            self.itself = function
            return
        if function.__dict__ or depth > 16:
            raise Unstable
        self.scope = scope = function.__globals__
        self.defaults = function.__defaults__, function.__kwdefaults__
        self.cells = [_content(cell) for cell in function.__closure__ or ()]
        self.names = {name: scope[name] for name in _names(function.__code__) if name in scope}
        values = [*self.cells, *self.names.values(), *(function.__defaults__ or ()),
                  *(function.__kwdefaults__ or {}).values()]
        self.inner = []
        for value in values:
            if isinstance(value, types.FunctionType):
                if value.__code__ is not function.__code__:  # a recursive one is itself
                    self.inner.append((value, Meaning(value, depth + 1)))
            elif not isinstance(value, PLAIN):
                raise Unstable

    def holds(self, function) -> bool:
        if self.itself is not None:
            return self.itself is function and function.__module__ not in by_value()
        scope = self.scope
        if (function.__globals__ is not scope or function.__dict__ or
                function.__defaults__ is not self.defaults[0] or
                function.__kwdefaults__ is not self.defaults[1]):
            return False
        for name, value in self.names.items():
            if scope.get(name, self) is not value:
                return False
        if self.cells:
            for cell, value in zip(function.__closure__, self.cells):
                if _content(cell) is not value:
                    return False
        return all(meaning.holds(value) for value, meaning in self.inner)


def needs_of(function) -> str:
    """What the pickle of a function needs, as workers compare it: JSON."""
    packages = {}
    if isinstance(function, types.FunctionType):
        scope = function.__globals__
        named = [scope.get(name) for name in _names(function.__code__)]
        names = [getattr(value, "__module__", None) or getattr(value, "__name__", None)
                 for value in (function, *named) if value is not None]
        for name in {str(name).partition(".")[0] for name in names}:
            version = getattr(sys.modules.get(name), "__version__", None)
            if isinstance(version, str):
                packages[name] = version
    return json.dumps({"python": platform.python_version(), "packages": packages},
                      sort_keys=True)


class Unstable(Exception):
    """A function refers to something that may change without being another object."""


def _names(code) -> list:
    names = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):  # functions inside of it
            names += _names(constant)
    return names


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:
        return None


def name_of(function) -> str:
    name = getattr(function, "__qualname__", None) or type(function).__qualname__
    return name.encode()[:MAX_NAME].decode(errors="ignore") or "function"


class Source(str):
    """Python source that is a function: needs no cloudpickle on either side."""


class Codes:
    """The functions that a session has put."""

    def __init__(self, session):
        self.session = session
        self.known = {}  # id of a code object: it, its Meaning, what is told
        self.sources = {}

    def __call__(self, function):
        """(name, Ref or None, form of its items)"""
        if type(function) is types.FunctionType:
            return self.function(function)
        if isinstance(function, Source):
            if function not in self.sources:
                self.sources[function] = self.session.put(str(function))
            return "function", self.sources[function], OBJECT
        if isinstance(function, str):
            return function, None, EXACT
        if not callable(function):
            raise TypeError(f"a {type(function).__name__} is neither a function nor the name of "
                            "one")
        return name_of(function), self.put(function), OBJECT

    def put(self, function):
        return self.session.put(function, None, needs_of(function))

    def function(self, function):
        code = function.__code__
        known = self.known.get(id(code))
        if known is not None and known[1].holds(function):
            return known[2]
        told = name_of(function), self.put(function), OBJECT
        try:
            meaning = Meaning(function)
        except Unstable:
            return told
        while len(self.known) >= MOST:
            del self.known[next(iter(self.known))]
        self.known[id(code)] = code, meaning, told
        return told


@contextlib.contextmanager
def by_value_of(module):
    """Within it functions of the module go by value: the workers need not have it."""
    import cloudpickle

    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)
