"""Entries of django-celery-beat, not of SCHEDULES, whose last fire could not be sent: where an operator sees them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cgk_tasks.runs.text import text_of
from cgk_tasks.sql.postgres import Connection, autocommit, execute, fetch, statements

SQL = statements("schedules")


@dataclass(frozen=True, slots=True)
class FailingEntry:
    """An entry that was not sent when it was due, and why."""

    name: str
    task: str
    failing_since: datetime
    failed_at: datetime
    reason: str


def failing_entries() -> list[FailingEntry]:
    """Those whose last fire failed, by name. Needs neither beat nor Django."""
    with autocommit() as connection:
        if not _are_noted(connection):
            return []
        return [FailingEntry(**row) for row in fetch(connection, SQL["failing_entries"])]


def _are_noted(connection: Connection) -> bool:
    return bool(fetch(connection, SQL["notes_failing_entries"])[0]["yes"])


class FailingEntries:
    """What the leading beat knows of them, so that an entry that is sent costs no statement."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    def reload(self, known: Collection[str]) -> None:
        """Read them, and forget those that beat has no entry for."""
        with autocommit() as connection:
            if _are_noted(connection):
                execute(connection, SQL["keep_failing_entries"], {"names": sorted(known)})
        self._names = {one.name for one in failing_entries()}

    def failed(self, name: str, task: str, error: BaseException) -> None:
        with autocommit() as connection:
            if _are_noted(connection):
                execute(connection, SQL["note_failing_entry"], {"name": name, "task": task, "reason": text_of(error)})
                self._names.add(name)

    def sent(self, name: str) -> None:
        if name in self._names:
            with autocommit() as connection:
                execute(connection, SQL["entry_is_sent"], {"name": name})
            self._names.discard(name)
