"""Locks that a migration needs: asked for briefly, again and again, beside workers and senders at work."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

import psycopg
import sqlalchemy as sa
import structlog

from cgk_tasks.errors import StoreError

T = TypeVar("T")

LOCK_TIMEOUT_SECONDS: Final = 0.4
"""A migration that waits for its lock on a table makes all sends and claims wait behind it: no longer than this. Less
than half of PostgreSQL's deadlock_timeout: of a migration and a run that wait for each other the migration gives way,
although it waits for two tables.
"""

_PAUSE_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0

log = structlog.get_logger("cgk_tasks.migrations")


def retry_while_locked(what: str, act: Callable[[], T]) -> T:
    """What `act` gives, which waits for locks no longer than LOCK_TIMEOUT_SECONDS, and is tried again two seconds later
    where it has not got one. Raises StoreError after ten minutes, which says `what` needs the lock.
    """
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return act()
        except (psycopg.Error, sa.exc.OperationalError) as exc:
            cause = getattr(exc, "orig", exc)
            if not isinstance(cause, psycopg.errors.LockNotAvailable | psycopg.errors.DeadlockDetected):
                raise
            if time.monotonic() > give_up:
                raise StoreError(
                    f"{what} needs a lock that other transactions have held for {_PATIENCE_SECONDS:g} s. Find the "
                    "oldest in pg_stat_activity (xact_start), end it, and migrate again."
                ) from exc
            log.warning("migration_waits", reason=str(cause).strip(), next_try_seconds=_PAUSE_SECONDS)
        time.sleep(_PAUSE_SECONDS)
