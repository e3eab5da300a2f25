"""Applying the migrations of the schema `cgk`, one transaction each, beside running workers and senders."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Final

import psycopg
import sqlalchemy as sa
import structlog
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cgk_tasks.errors import StoreError
from cgk_tasks.sql.sqlalchemy_engine import engine

SCHEMA: Final = "cgk"
LOCK_TIMEOUT_SECONDS: Final = 1.0
"""A migration that waits for its lock on a table makes all sends and claims wait behind it: no longer than this."""

_PAUSE_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0

log = structlog.get_logger("cgk_tasks.migrations")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def migrate(revision: str = "head") -> str:
    """Bring the schema `cgk` to `revision`; safe to repeat, when several processes start at once, and while runs flow.

    Each migration is a transaction of its own. One that does not get its lock within a second is tried again two
    seconds later. Raises StoreError after ten minutes of that. Does nothing to the schema of a newer version.
    """
    before = current()
    if before is not None and is_newer(before):
        return before
    while _apply_next_patiently(revision):
        pass
    return current() or ""


def _apply_next_patiently(target: str) -> bool:
    give_up = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return _apply_next(target)
        except sa.exc.OperationalError as exc:
            if not isinstance(exc.orig, psycopg.errors.LockNotAvailable):
                raise
            if time.monotonic() > give_up:
                raise StoreError(
                    f"A migration after {current()} needs a lock that other transactions have held for "
                    f"{_PATIENCE_SECONDS:g} s. Find the oldest in pg_stat_activity (xact_start), end it, and "
                    "migrate again."
                ) from exc
            log.warning("migration_waits", reason=str(exc.orig).strip(), next_try_seconds=_PAUSE_SECONDS)
        time.sleep(_PAUSE_SECONDS)


def _apply_next(target: str) -> bool:
    """Apply the first migration that is missing, as Alembic's `upgrade` applies all. False if there is none."""
    script = ScriptDirectory.from_config(_config())
    steps: list[Any] = []

    def first_missing(known: str, _context: MigrationContext) -> list[Any]:
        steps.extend(script._upgrade_revs(target, known)[:1])  # noqa: SLF001 - as Alembic's own command does
        return steps

    with EnvironmentContext(_config(), script, fn=first_missing, destination_rev=target):
        script.run_env()
    return bool(steps)


def current() -> str | None:
    """The revision that the database is at, or None if it was never migrated."""
    with engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision()


def is_newer(revision: str) -> bool:
    """Whether a newer version of cgk_tasks made this revision: after an upgrade was rolled back the schema stays."""
    return revision not in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def newest() -> str | None:
    """The newest revision that this version of cgk_tasks knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()
