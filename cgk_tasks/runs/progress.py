"""What runs tell of themselves, on record: written while their jobs go on, four times a second at most, and at the end.

A thread does that, for all runs of the process at once. It begins with the first of them that tells something: a run
that tells nothing costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

import psycopg

from cgk_tasks.logger import get_logger
from cgk_tasks.runs.models import Progress
from cgk_tasks.runs.report import RunReport
from cgk_tasks.runs.sealing import key_for, open_sealed, seal
from cgk_tasks.runs.soon import Soon
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, fetch, is_not_migrated, statements

SQL = statements("progress")
log = get_logger("cgk_tasks.runs")

EVERY_SECONDS: Final = 0.25


class Told(NamedTuple):
    """What is on record."""

    progress: Progress | None
    metadata: Mapping[str, Any]


NOTHING: Final = Told(None, {})


class KeptReport:
    """What one attempt tells of its run, and whether that is on record already."""

    def __init__(self, run_id: str, tenant_id: str, attempt: int) -> None:
        self.run_id, self.tenant_id, self.attempt = run_id, tenant_id, attempt
        self.is_over = False
        self.is_changed = False
        self.report = RunReport(self._changed)
        if attempt > 1:
            with autocommit() as connection:
                self.report.recall(*told(connection, run_id))

    def _changed(self, _report: RunReport) -> None:
        if not self.is_changed and not self.is_over:
            self.is_changed = True
            _writer.add(self)


class RunOfAttempt(Protocol):
    """The run that an attempt is of."""

    @property
    def id(self) -> str: ...
    @property
    def tenant_id(self) -> str: ...
    @property
    def attempt(self) -> int: ...


def begin(run: RunOfAttempt, kept: list[KeptReport]) -> RunReport:
    """The report of this attempt, which is added to those of its packet."""
    kept.append(KeptReport(run.id, run.tenant_id, run.attempt))
    return kept[-1].report


def _write_due(due: Sequence[KeptReport]) -> list[KeptReport]:
    with autocommit() as connection:
        _insert(connection, due)
    return []


_writer: Final[Soon[KeptReport]] = Soon("cgk-run-progress", EVERY_SECONDS, _write_due)


def write(reports: Sequence[KeptReport]) -> None:
    """Write what these attempts, which have ended, have told since it was last written.

    Never raises for PostgreSQL being away: a run does not fail for its progress.
    """
    for one in reports:
        one.is_over = True
    try:
        with _writer.lock, autocommit() as connection:  # after what is just being written
            _insert(connection, reports)
    except psycopg.Error as exc:
        log.warning("progress_not_kept", runs=[one.run_id for one in reports], reason=str(exc).strip())
        for one in reports:
            one.is_changed = False  # or the thread would try for ever


def _insert(connection: Connection, reports: Sequence[KeptReport]) -> None:
    due = [one for one in reports if one.is_changed]
    if not due:
        return
    for one in due:
        one.is_changed = False  # before it is read: what changes meanwhile is written next time
    try:
        execute(connection, SQL["keep_progress"], _values(due))
    except BaseException:
        for one in due:
            one.is_changed = True
        raise


def _values(reports: Sequence[KeptReport]) -> dict[str, list[Any]]:
    told = [one.report.progress for one in reports]
    keys = [key_for(one.tenant_id) for one in reports]
    return {
        "run_id": [one.run_id for one in reports],
        "tenant_id": [one.tenant_id for one in reports],
        "attempt": [one.attempt for one in reports],
        "done": [progress and progress.done for progress in told],
        "total": [progress and progress.total for progress in told],
        "told_at": [progress and progress.at for progress in told],
        "sealed_message": [
            seal(one.tenant_id, "progress", progress.message if progress else None, key)
            for one, progress, key in zip(reports, told, keys, strict=True)
        ],
        "sealed_metadata": [
            seal(one.tenant_id, "metadata", one.report.metadata(), key) for one, key in zip(reports, keys, strict=True)
        ],
        "key_id": keys,
    }


def told(connection: Connection, run_id: str) -> Told:
    """What a run has told of itself so far."""
    try:
        rows = fetch(connection, SQL["progress"], {"run_id": run_id})
    except psycopg.Error as exc:
        if not is_not_migrated(exc):
            raise
        return NOTHING
    return told_in(rows[0]) if rows else NOTHING


def told_in(row: Row) -> Told:
    """That of a row which has it."""
    metadata = row.get("told_metadata")
    if metadata is None:
        return NOTHING
    tenant_id, key_id = row["tenant_id"], row["told_key_id"]
    message = open_sealed(tenant_id, "progress", row["told_message"], key_id)
    shown = None if row["done"] is None else Progress(row["done"], row["total"], message or "", row["told_at"])
    return Told(shown, json.loads(open_sealed(tenant_id, "metadata", metadata, key_id)))
