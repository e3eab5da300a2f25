"""Migrations of the schema `cgk`, run with `cgk-tasks migrate` (Alembic underneath)."""

from __future__ import annotations

from collections.abc import Callable

from cgk_tasks.extras import require_extra


def migrate(revision: str = "head", report: Callable[[str, int], None] | None = None) -> str:
    """Bring the schema `cgk` to `revision`; safe to repeat, when several processes start at once, and while runs flow.

    Each migration is a transaction of its own. One that does not get its lock within a second is tried again two
    seconds later. Returns the revision. Raises StoreError after ten minutes of that, ConfigurationError without the
    extra `migrate`. Does nothing to the schema of a newer version. Without a revision, a database that is in use keeps
    what processes of an earlier release need; see `finish`. report: called with a table, and how many of its rows have
    been converted so far.
    """
    require_extra("migrate", "The command migrate")
    from cgk_tasks.migrations import apply

    return apply.migrate(revision, report)


def finish(report: Callable[[str, int], None] | None = None) -> str:
    """Do what `migrate` does, and remove what only processes of an earlier release need. Returns the revision.

    Raises StoreError while some of those are there.
    """
    require_extra("migrate", "The command migrate")
    from cgk_tasks.migrations import apply

    return apply.finish(report)


def is_usable(revision: str | None) -> bool:
    """Whether this version of cgk_tasks can work on the database, which is at this revision."""
    require_extra("migrate", "The revision of the database")
    from cgk_tasks.migrations import apply

    return apply.is_usable(revision)


def current() -> str | None:
    """The revision that the database is at, or None if it was never migrated."""
    require_extra("migrate", "The revision of the database")
    from cgk_tasks.migrations import apply

    return apply.current()


def is_newer(revision: str) -> bool:
    """Whether a newer version of cgk_tasks made this revision: after an upgrade was rolled back the schema stays."""
    require_extra("migrate", "The revision of the database")
    from cgk_tasks.migrations import apply

    return apply.is_newer(revision)


def newest() -> str | None:
    """The newest revision that this version of cgk_tasks knows."""
    require_extra("migrate", "The newest revision")
    from cgk_tasks.migrations import apply

    return apply.newest()
