"""The connections of a runtime: the one used last is taken first, so that its prepared statements stay warm.

A place in the pool is an object. Whoever loses it, because an exception was raised between any two steps, gives it back
by losing it: so there is no counter that could stay too high, and no lock that could stay closed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from weakref import WeakSet

import psycopg
from psycopg.pq import PipelineStatus, TransactionStatus

from cgk_tasks.sockets import has_input
from cgk_tasks.sql.connecting import Connection

CONNECTIONS_LIMIT = 45
"""So many connections one process may have; those above the first few are closed after use."""
_KEPT_IDLE = 5
_WAIT_SECONDS = 30.0
_LOOK_SECONDS = 0.01


class Place:
    """A connection, or the right to make one."""

    __slots__ = ("__weakref__", "connection")

    connection: Connection

    def close(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()


class Pool:
    def __init__(self, connect: Callable[[], Connection], limit: int = CONNECTIONS_LIMIT) -> None:
        self._connect, self._limit = connect, limit
        self._places: WeakSet[Place] = WeakSet()
        self._idle: deque[Place] = deque()
        self._keep = _KEPT_IDLE

    def take(self) -> Place:
        """A place with a connection. Raises psycopg.Error."""
        give_up = None
        while True:
            place = self._idle_place() or self._new_place()
            if place is not None:
                return place
            now = time.monotonic()
            give_up = give_up or now + _WAIT_SECONDS
            if now >= give_up:
                raise psycopg.OperationalError(
                    f"All {self._limit} connections of this process have been in use for {_WAIT_SECONDS:g} s."
                )
            time.sleep(_LOOK_SECONDS)  # one that was lost tells nobody

    def _idle_place(self) -> Place | None:
        while self._idle:
            try:
                place = self._idle.pop()
            except IndexError:
                return None  # another thread took the last one
            usable = False
            try:
                usable = is_open(place.connection)
            finally:
                if not usable:  # or nobody knows, because the look was interrupted
                    self._forget(place)
            if usable:
                return place
        return None

    def _new_place(self) -> Place | None:
        place = Place()
        self._places.add(place)
        if len(self._places) > self._limit:
            self._places.discard(place)
            return None
        try:
            place.connection = self._connect()
        except BaseException:
            self._forget(place)  # the exception keeps it alive as long as somebody looks at it
            raise
        return place

    def give_back(self, place: Place, *, broken: bool) -> None:
        if not broken and _is_at_rest(place.connection) and len(self._idle) < self._keep:
            self._idle.append(place)
            return
        self._forget(place)

    def _forget(self, place: Place) -> None:
        self._places.discard(place)
        place.close()

    @property
    def size(self) -> int:
        """Connections that are open, in use or idle."""
        return len(self._places)

    @property
    def backends(self) -> list[int]:
        """The processes of PostgreSQL behind the connections that are open."""
        places = [place for place in list(self._places) if hasattr(place, "connection")]
        return [place.connection.info.backend_pid for place in places if not place.connection.closed]

    def close(self) -> None:
        """Close the idle ones now, and the others after their use."""
        self._keep = 0
        self.close_idle()

    def close_idle(self) -> None:
        """Close those that nobody uses."""
        while self._idle:
            try:
                place = self._idle.pop()
            except IndexError:
                return  # another thread took the last one
            self._forget(place)


def _is_at_rest(connection: Connection) -> bool:
    """Whether nothing is on its way. In a pipeline that was left open the next statement would not be answered; and
    while the driver counts a block `transaction()` that was interrupted as open, it begins no other.
    """
    pgconn = connection.pgconn
    return (
        pgconn.transaction_status == TransactionStatus.IDLE
        and pgconn.pipeline_status == PipelineStatus.OFF
        and not connection._num_transactions  # noqa: SLF001 - it tells nobody else
    )


def is_open(connection: Connection) -> bool:
    """An idle connection with something to read was closed by PostgreSQL."""
    return not connection.closed and not has_input(connection.fileno())
