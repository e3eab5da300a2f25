"""What the supervisor does without waiting for the locks of others: it is done at a later turn.

An application's transaction that cancels or signals a run has its row locked until it ends, which may be in an hour.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import psycopg

from cgk_tasks.errors import StoreError
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.sql.locks import is_locked

T = TypeVar("T")

_HINT: Final = (
    "It is tried again. A transaction that is open for long holds the lock: look into pg_locks and pg_stat_activity"
)


class SkipLocked:
    """Tries things of which none keeps the others waiting, and warns once a minute of those that are locked."""

    def __init__(self, log: Any) -> None:
        self._log = log
        self._warnings: dict[str, RecurringWarning] = {}

    def tried(self, what: str, act: Callable[[], T], otherwise: T) -> T:
        """What `act` gives; `otherwise` where somebody's open transaction holds a lock that it needs. Other errors are
        raised.
        """
        try:
            done = act()
        except (psycopg.Error, StoreError) as exc:
            if not is_locked(exc):
                raise
            if what not in self._warnings:
                self._warnings[what] = RecurringWarning(self._log, "record_locked", "record_unlocked")
            self._warnings[what].warn(what=what, hint=_HINT, reason=str(exc).strip())
            return otherwise
        if what in self._warnings:
            self._warnings[what].is_over()
        return done
