"""Applying the migrations of the schema `cgk`, one transaction each, beside running workers and senders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cgk_tasks.config import get_settings
from cgk_tasks.errors import StoreError
from cgk_tasks.migrations import conversion, indexes
from cgk_tasks.migrations.conversion import Report
from cgk_tasks.migrations.patience import retry_while_locked
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.sql.sqlalchemy_engine import engine

SQL = statements("content")

SCHEMA: Final = "cgk"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


EXPANDED: Final = "0013"
"""The migration that adds the columns of sealed content: this code and the release before work on it side by side."""

FINISHED: Final = "0014"
"""The migration that removes what only the release before needs."""


def migrate(revision: str = "head", report: Report | None = None) -> str:
    """Bring the schema `cgk` to `revision`; safe to repeat, when several processes start at once, and while runs flow.

    Each migration is a transaction of its own. One that does not get its lock within 0.4 s is tried again two
    seconds later. Raises StoreError after ten minutes of that. Does nothing to the schema of a newer version.

    Without a revision, a database that is in use stops before the migration that processes of an earlier release would
    not survive: `finish` does that one. report: hears of the rows that are converted.
    """
    before = current()
    if before is not None and is_newer(before):
        return before
    if revision != "head":
        return _apply(revision, report)
    if not _is_finished(current()):
        _apply(EXPANDED, report)
        if not _is_in_use():
            _apply(FINISHED, report)
    if _is_finished(current()):
        _apply("head", report)
    return current() or ""


def finish(report: Report | None = None) -> str:
    """Remove what processes of an earlier release need. Returns the revision. Raises StoreError while some live."""
    migrate(report=report)
    if current() == EXPANDED:
        refuse_older_processes()
        conversion.convert(report)  # what they have sent since
        _apply("head", report)
    return current() or ""


def _is_finished(revision: str | None) -> bool:
    """Whether a known revision is FINISHED or a later one. They are numbered."""
    return revision is not None and revision >= FINISHED


def _apply(target: str, report: Report | None) -> str:
    while retry_while_locked(f"A migration after {current()}", lambda: _apply_next(target)):
        if current() == EXPANDED:
            conversion.convert(report)
    if current() == EXPANDED and not conversion.is_complete():
        conversion.convert(report)  # it was interrupted
    revision = current() or ""
    if revision >= indexes.SINCE:
        indexes.make()
        indexes.drop_replaced(revision)
    return revision


def _is_in_use() -> bool:
    with autocommit() as connection:
        return bool(fetch(connection, SQL["is_in_use"])[0]["yes"])


def refuse_older_processes() -> None:
    """Raises StoreError while processes of an earlier release work on this database: they would lose their columns."""
    timeout = get_settings().worker_timeout_seconds
    with autocommit() as connection:
        workers = [row["name"] for row in fetch(connection, SQL["older_workers"], {"timeout": timeout})]
        seconds = fetch(connection, SQL["seconds_since_old_form"])[0]["seconds"]
    if workers:
        raise StoreError(
            f"Workers of an earlier release are alive: {', '.join(workers)}.",
            hint="Replace them first, then: cgk-tasks migrate --finish",
        )
    if seconds is not None and seconds < timeout:
        raise StoreError(
            f"A process of an earlier release has written to this database {max(seconds, 0.0):.0f} s ago.",
            hint=f"Is it a sender or a beat? Replace it, wait {timeout:g} s, then: cgk-tasks migrate --finish",
        )


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


def is_usable(revision: str | None) -> bool:
    """Whether this version of cgk_tasks can work on the database, which is at this revision."""
    if revision == EXPANDED:
        return conversion.is_complete()
    if revision is None or is_newer(revision):
        return revision is not None
    return _is_finished(revision) and (revision < indexes.SINCE or indexes.are_made())


def newest() -> str | None:
    """The newest revision that this version of cgk_tasks knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()
