# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""A client for asyncio.

    async with peach.aio.connect() as client:
        y = await client.call(f, x)
        ys = await client.map(f, xs)
        async for y in client.imap(f, xs):
            ...
"""
from __future__ import annotations

import asyncio
import functools
from typing import Any, AsyncIterator, Iterable

from . import _client, _fleet


class AsyncClient:
    """A peach.Client whose waiting is awaited; made by connect() or of a client."""

    def __init__(self, client: _client.Client):
        self._client = client

    async def call(self, function, /, *args, **keywords) -> Any:
        """function(*args, **keywords), once; a cancelled task gives it up."""
        return await asyncio.wrap_future(await _away(
            self._client.submit, function, *args, **keywords))

    async def map(self, function, *iterables: Iterable, **options) -> list:
        """Client.map, awaited."""
        return await _away(self._client.map, function, *iterables, **options)

    async def starmap(self, function, iterable: Iterable, **options) -> list:
        return await _away(self._client.starmap, function, iterable, **options)

    def imap(self, function, *iterables: Iterable, **options) -> AsyncIterator:
        """The results one by one, in order; items are taken as they can be used."""
        return self._iterate(self._client.imap(function, *iterables, **options))

    def imap_unordered(self, function, *iterables: Iterable, **options) -> AsyncIterator:
        return self._iterate(self._client.imap_unordered(function, *iterables, **options))

    async def _iterate(self, results):
        end = object()
        try:
            while (value := await _away(next, results, end)) is not end:
                yield value
        finally:
            await _away(results.close)

    async def put(self, value: Any):
        return await _away(self._client.put, value)

    async def init(self, slots: int | str | None = 0, preloads=(), timeout: float | None = 60) -> int:
        return await _away(self._client.init, slots, preloads, timeout)

    async def status(self) -> dict:
        return await _away(self._client.status)

    async def close(self) -> None:
        await _away(self._client.close)

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(self, *unused) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<peach.aio {self._client!r}>"


class connect:
    """An AsyncClient of the fleet at these endpoints: await it, or use it in async with."""

    def __init__(self, endpoints: str | None = None, timeout: float = 3.0):
        self._make = functools.partial(_fleet.connect, endpoints, timeout)
        self._made: AsyncClient | None = None

    def __await__(self):
        return self._connect().__await__()

    async def _connect(self) -> AsyncClient:
        return AsyncClient(await _away(self._make))

    async def __aenter__(self) -> AsyncClient:
        self._made = await self._connect()
        return self._made

    async def __aexit__(self, *unused) -> None:
        await self._made.close()


def _away(function, *args, **keywords):
    """In a thread: what it does may wait."""
    return asyncio.get_running_loop().run_in_executor(
        None, functools.partial(function, *args, **keywords))
