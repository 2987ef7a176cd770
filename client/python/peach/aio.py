# This Source Code Form is subject to the terms of the Mozilla Public
# License, v. 2.0. If a copy of the MPL was not distributed with this file,
# You can obtain one at https://mozilla.org/MPL/2.0/.
"""A client for asyncio.

    async with peach.aio.connect() as client:
        y = await client.call(f, x)
        ys = await client.map(f, xs)
        async for y in client.imap(f, xs):
            ...

Arguments, and the items of lists, are what they are when these are called, not when they are
awaited.
"""
from __future__ import annotations

import asyncio
import functools
from typing import Any, AsyncIterator, Awaitable, Iterable

from . import _client, _fleet
from ._functions import OBJECT
from ._peach import hold, hold_call


class AsyncClient:
    """A peach.Client whose waiting is awaited; made by connect() or of a client."""

    def __init__(self, client: _client.Client):
        self._client = client

    def call(self, function, /, *args, **keywords) -> Awaitable:
        """function(*args, **keywords), once; a cancelled task gives it up."""
        if keywords:
            args = (*args, keywords)
        try:
            call = hold_call(args, _client.form_of(function))
        except Exception as error:
            return _failed(error)
        return self._call(function, call, bool(keywords))

    async def _call(self, *call):
        client = self._client
        return await asyncio.wrap_future(await _away(
            client._submit_held, client._get_pump(), *call))

    def map(self, function, *iterables: Iterable, **options) -> Awaitable[list]:
        """Client.map, awaited."""
        return self._map(self._client.map, function, iterables, False, options)

    def starmap(self, function, iterable: Iterable, **options) -> Awaitable[list]:
        return self._map(self._client.starmap, function, [iterable], True, options)

    @staticmethod
    def _map(how, function, iterables, spread, options):
        try:
            iterables = [_client.held(function, i, spread) for i in iterables]
        except Exception as error:
            return _failed(error)
        return _run(how, function, *iterables, **options)

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

    def put(self, value: Any) -> Awaitable:
        try:
            value = hold(value, OBJECT)
        except Exception as error:
            return _failed(error)
        return _run(self._client.put, value)

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

    def __init__(self, endpoints: str | None = None, timeout: float = 3.0, *,
                 patience: float | None = 30.0, insecure: bool = False):
        self._make = functools.partial(_fleet.connect, endpoints, timeout, patience=patience,
                                       insecure=insecure)
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


async def _run(function, *args, **keywords):
    return await _away(function, *args, **keywords)


async def _failed(error):
    raise error


def _away(function, *args, **keywords):
    """In a thread: what it does may wait."""
    return asyncio.get_running_loop().run_in_executor(
        None, functools.partial(function, *args, **keywords))
