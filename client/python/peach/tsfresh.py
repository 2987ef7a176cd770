# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""A distributor for tsfresh: extract_features(..., distributor=peach.tsfresh.Distributor()).

tsfresh itself is not needed to import this.
"""
from __future__ import annotations

from typing import Callable, Iterable

from . import _fleet
from ._client import Client

try:
    from tsfresh.utilities.distribution import IterableDistributorBaseClass as Base
except ImportError:
    Base = object


class Distributor(Base):
    """What tsfresh.utilities.distribution calls a distributor, on a fleet.

    client: whose fleet it is (default: peach.init's, or a new one). disable_progressbar and
    progressbar_title are tsfresh's.
    """

    def __init__(self, client: Client | None = None, disable_progressbar: bool = True,
                 progressbar_title: str = "Feature Extraction"):
        self._client = client
        self.disable_progressbar = disable_progressbar
        self.progressbar_title = progressbar_title

    def map_reduce(self, map_function: Callable, data: Iterable,
                   function_kwargs: dict | None = None, chunk_size: int | None = None,
                   data_length: int | None = None) -> list:
        """The flat list of what map_function gives for each element of data: an iterable.

        chunk_size: elements a task (default: chosen by their time).
        """
        keywords = function_kwargs or {}

        def each(item):  # goes by value: the workers need no package peach
            return list(map_function(item, **keywords))

        parts = self._map(each, data, int(chunk_size) if chunk_size else None)
        self.close()
        return [row for part in parts for row in part]

    def distribute(self, func: Callable, partitioned_chunks: Iterable, kwargs: dict) -> list:
        """func(chunk, **kwargs) of every chunk."""

        def each(chunk):
            return func(chunk, **kwargs)

        return self._map(each, map(list, partitioned_chunks), 1)

    def _map(self, function, items, chunk):
        client = self._client or _fleet.current()
        return client.map(function, items, chunk=chunk,
                          progress=not self.disable_progressbar)

    def calculate_best_chunk_size(self, data_length: int) -> int:
        """Elements a task, for who wants to know: five tasks a slot."""
        slots = max(1, (self._client or _fleet.current()).slots)
        return max(1, -(-data_length // (slots * 5)))

    def close(self) -> None:
        """Nothing: the fleet is not this distributor's."""
