"""The connections of event loops, for the functions that asyncio applications call.

A connection is used on the loop that has made it, and closed when that ends. A loop is one thread, which a few
connections keep busy: what it sends at the same time goes together anyway.
"""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

import psycopg
from psycopg import generators
from psycopg.pq import TransactionStatus

from cgk_tasks.config import get_settings
from cgk_tasks.runtime import Part
from cgk_tasks.sql.connecting import CONNECT_WITH, OF_THE_RECORD, AsyncConnection, connect_async
from cgk_tasks.sql.door import Row, afetch
from cgk_tasks.sql.loops import PerLoop
from cgk_tasks.sql.pool import is_open
from cgk_tasks.sql.postgres import (
    CONFLICTS,
    FLUSH,
    close_with_pools,
    is_not_migrated,
    parameters,
    preparing,
    raise_refused,
    short_pause,
)

T = TypeVar("T")

CONNECTIONS_LIMIT: Final = 4
"""So many connections one loop may have."""
_WAIT_SECONDS: Final = 30.0


class AsyncPool:
    """Of one loop. The connection used last is taken first, so that its prepared statements stay warm."""

    def __init__(self, connect: Callable[[], Awaitable[AsyncConnection]], limit: int = CONNECTIONS_LIMIT) -> None:
        self._connect, self._limit = connect, limit
        self._places = asyncio.Semaphore(limit)
        self._idle: deque[AsyncConnection] = deque()
        self._used = 0
        self._is_closed = False
        self._ending: AsyncGenerator[None, None] | None = None

    async def take(self) -> AsyncConnection:
        """A connection, which has to be given back. Raises psycopg.Error."""
        if self._ending is None:
            self._ending = _until_the_loop_ends(self.close)
            await anext(self._ending)
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                await self._places.acquire()
        except TimeoutError:
            raise psycopg.OperationalError(
                f"All {self._limit} connections of this event loop have been in use for {_WAIT_SECONDS:g} s."
            ) from None
        try:
            connection = self._idle_connection() or await self._connect()
        except BaseException:
            self._places.release()
            raise
        self._used += 1
        return connection

    def _idle_connection(self) -> AsyncConnection | None:
        while self._idle:
            connection = self._idle.pop()
            if is_open(connection):
                return connection
            connection.pgconn.finish()
        return None

    def give_back(self, connection: AsyncConnection, *, broken: bool) -> None:
        is_clean = not broken and connection.pgconn.transaction_status == TransactionStatus.IDLE
        if is_clean and not self._is_closed:
            self._idle.append(connection)
        else:
            connection.pgconn.finish()
        self._used -= 1
        self._places.release()

    @property
    def size(self) -> int:
        """Connections that are open, in use or idle."""
        return self._used + len(self._idle)

    def close(self) -> None:
        """Close the idle ones now, and the others after their use. May be called from any thread."""
        self._is_closed = True
        while self._idle:
            self._idle.pop().pgconn.finish()


async def _until_the_loop_ends(close: Callable[[], object]) -> AsyncGenerator[None, None]:
    """What asyncio does for a loop at its end is to close its generators: the one place where it says that it ends."""
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() == process:  # a forked child would say goodbye on the sockets of its parent
            close()


def _new_pool() -> AsyncPool:
    settings = get_settings()
    values = CONNECT_WITH | parameters(settings.database)
    return AsyncPool(lambda: connect_async(values, OF_THE_RECORD, preparing=preparing(settings)))


ASYNC_POOLS: Final = close_with_pools(Part(lambda: PerLoop(_new_pool, AsyncPool.close), close=PerLoop.close))


class _Borrowed(AbstractAsyncContextManager[AsyncConnection]):
    """A connection for the length of a block. A class, because a generator would cost as much as the rest."""

    __slots__ = ("_connection", "_pool")

    async def __aenter__(self) -> AsyncConnection:
        self._pool = ASYNC_POOLS.current().current()
        self._connection = await self._pool.take()
        return self._connection

    async def __aexit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        broken = kind is not None and issubclass(kind, psycopg.OperationalError)
        self._pool.give_back(self._connection, broken=broken)


def async_autocommit() -> AbstractAsyncContextManager[AsyncConnection]:
    """`autocommit` for an event loop: every statement is its own transaction."""
    return _Borrowed()


class AsyncFlushing(AbstractAsyncContextManager[None]):
    """`flushing` for an event loop: PostgreSQL writes to disk while the block runs. All of it is there at its end."""

    __slots__ = ("_connection",)

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def __aenter__(self) -> None:
        self._connection.pgconn.send_query(FLUSH)

    async def __aexit__(self, kind: type[BaseException] | None, *_exception: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            return  # the task was cancelled: the connection is closed, with the answer in it
        raise_refused(await self._connection.wait(generators.execute(self._connection.pgconn)))


async def aretry_conflicts(action: Callable[[], Awaitable[T]], tries: int = 5) -> T:
    """`retry_conflicts` for an event loop."""
    for _ in range(tries - 1):
        try:
            return await action()
        except CONFLICTS:
            await asyncio.sleep(short_pause())
    return await action()


async def afetch_or_before(
    connection: AsyncConnection, statement: str, before: str, values: Mapping[str, Any] | None = None
) -> list[Row]:
    """`fetch_or_before` for an event loop."""
    try:
        return await afetch(connection, statement, values)
    except psycopg.Error as exc:
        if not is_not_migrated(exc):
            raise
    return await afetch(connection, before, values)
