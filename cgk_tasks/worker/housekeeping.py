"""What is done once an hour: partitions of the coming days are made, and what is kept no longer is removed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import date, timedelta
from functools import partial
from typing import Any, TypeAlias

import psycopg
import structlog
from psycopg import errors

from cgk_tasks.config import get_settings
from cgk_tasks.runs import event_waits
from cgk_tasks.runs.counts import forget_counts
from cgk_tasks.runs.partitions import DAILY_TABLES, forget_days, make_days
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import autocommit, execute, is_away, is_not_migrated, statements
from cgk_tasks.tenancy.audit import forget_program_actions

SQL, LIMITS = statements("dispatch"), statements("limits")
MERGING, USAGE = statements("merging"), statements("usage")
log = structlog.get_logger("cgk_tasks.history")

_KEYS_AT_ONCE = 10_000
_PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""Seconds between attempts to get a lock. The platform itself reads the history now and then, to count runs."""
_HINT = "Another transaction has a lock on this table: the oldest of pg_stat_activity? It is tried again in an hour."

Act: TypeAlias = Callable[[], object]


def run_housekeeping(pauses: Sequence[float] = ()) -> None:
    """All of it; safe to repeat. What fails is logged, and the rest is done all the same: the next hour tries again.

    It may last, where much is to be removed. pauses: after such times it is tried again to get a lock that somebody
    else holds. Raises psycopg.Error if PostgreSQL is away.
    """
    locked = _attempt(_acts(database_now().date()))
    for pause in pauses:
        if locked:
            time.sleep(pause)
            locked = _attempt(locked)
    for name, _act in locked:
        log.warning("housekeeping_deferred", at=name, hint=_HINT)


def run_housekeeping_and_log() -> None:
    """The same, for a thread: errors are logged."""
    try:
        run_housekeeping(_PAUSES)
    except psycopg.Error as exc:
        log.warning("housekeeping_failed", reason=str(exc).strip())
    except Exception:
        log.exception("housekeeping_failed")


def _attempt(acts: Iterable[tuple[str, Act]]) -> list[tuple[str, Act]]:
    """Do these. Returns those for which a lock was not to be had."""
    locked = []
    for name, act in acts:
        try:
            act()
        except errors.LockNotAvailable:
            locked.append((name, act))
        except psycopg.Error as exc:
            if is_away(exc):
                raise
            if not is_not_migrated(exc):  # else an upgrade is under way
                log.warning("housekeeping_failed", at=name, reason=str(exc).strip())
    return locked


def _acts(today: date) -> Iterator[tuple[str, Act]]:
    settings = get_settings()
    days = settings.history_days
    for table in DAILY_TABLES:
        kept = settings.mail_days if table.name == "event_mail" else days
        yield table.name, partial(make_days, today, table)
        yield table.name, partial(forget_days, today - timedelta(days=kept), table)
    yield "idempotency_keys", _forget_keys
    yield "groups", _with_connection(execute, SQL["forget_groups"], {"days": days})
    yield "discarded_runs", _with_connection(execute, SQL["forget_discarded"], {"days": days})
    yield "audit", _with_connection(forget_program_actions, days)
    yield "runs_of_days", _with_connection(execute, LIMITS["forget_days"])
    yield "usage", _with_connection(execute, USAGE["forget_usage"], {"days": settings.usage_days})
    yield "run_counts", _with_connection(forget_counts, days)
    yield "event_waits", _with_connection(event_waits.forget, settings.mail_days)
    yield "buckets", _with_connection(execute, MERGING["forget_buckets"], {"limit": _KEYS_AT_ONCE})


def _with_connection(act: Callable[..., object], *arguments: Any) -> Act:
    def acting() -> None:
        with autocommit() as connection:
            act(connection, *arguments)

    return acting


def _forget_keys() -> None:
    with autocommit() as connection:
        while execute(connection, SQL["forget_keys"], {"limit": _KEYS_AT_ONCE}) == _KEYS_AT_ONCE:
            pass
