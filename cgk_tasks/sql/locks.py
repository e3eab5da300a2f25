"""Not waiting for the locks of others: an application's open transaction may keep a row locked for hours."""

from __future__ import annotations

from typing import Final

from psycopg import errors as pg_errors

from cgk_tasks.sql.postgres import Connection, execute, statements

SQL = statements("locks")

LOCK_SECONDS: Final = 0.5
"""How long a statement about many runs waits. Locks that others hold in passing are gone by then."""
_SECONDS_APART: Final = 0.05
"""How long what is made for one of many waits, once it is known that some are locked."""


def is_locked(exc: BaseException) -> bool:
    """Whether a statement gave up because somebody's open transaction holds a lock that it needs."""
    return isinstance(exc, pg_errors.LockNotAvailable) or isinstance(exc.__cause__, pg_errors.LockNotAvailable)


def wait_briefly(connection: Connection, *, are_many: bool = False) -> None:
    """From now on statements of this transaction raise LockNotAvailable where they would wait for somebody's lock."""
    _wait(connection, _SECONDS_APART if are_many else LOCK_SECONDS)


def wait_as_ever(connection: Connection) -> None:
    """From now on statements of this transaction wait without end again."""
    _wait(connection, 0)


def _wait(connection: Connection, seconds: float) -> None:
    execute(connection, SQL["wait_for_locks"], {"milliseconds": round(seconds * 1000)})
