"""Queues as operators see them: what waits in each, who listens, and which are paused.

A pause is a row in PostgreSQL, which every claim reads: it counts for all workers at once, and outlives them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cgk_tasks.config import get_settings
from cgk_tasks.flow.new_run import queue_name
from cgk_tasks.sql.postgres import Connection, autocommit, fetch, statements, transaction
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL = statements("queues")


@dataclass(frozen=True, slots=True)
class Pause:
    """Since when a queue is paused, and by whom."""

    queue: str
    paused_at: datetime
    paused_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue as of now. `waiting`: due and not begun; `later`: scheduled, or waiting for the next attempt.

    oldest_seconds: since when the oldest of the waiting and the held runs has been due; None where there are none.
    workers: those alive that listen to it. The last three are None where it is not paused.
    """

    queue: str
    waiting: int
    running: int
    held: int
    later: int
    oldest_seconds: float | None
    workers: int
    paused_at: datetime | None
    paused_by: str | None
    reason: str | None

    @property
    def is_paused(self) -> bool:
        return self.paused_at is not None


def pause_queue(name: str, *, by: str = "", reason: str = "") -> Pause:
    """Hold the queue's runs: nothing new starts, sends are accepted and wait, running runs go on.

    A queue that is paused already stays as it is. A queue without runs and workers can be paused too.
    Raises InvalidOptionError for what is no name of a queue, and TenantContextError inside a tenant's context.
    """
    refuse_in_context("What is paused")
    values = {"queue": queue_name(name), "by": by, "reason": reason}
    with transaction() as connection:
        made = Pause(**fetch(connection, SQL["pause_queue"], values)[0])
        note(connection, "pause queue", made.queue, by=by, message=reason)
        return made


def resume_queue(name: str) -> bool:
    """Let the queue's held runs go on; the dispatcher dispatches them within a second or two.

    Those of suspended tenants stay held. Returns whether the queue was paused. Raises TenantContextError inside a
    tenant's context.
    """
    refuse_in_context("What is paused")
    with transaction() as connection:
        was_paused = bool(fetch(connection, SQL["resume_queue"], {"queue": name}))
        if was_paused:
            note(connection, "resume queue", name)
        return was_paused


def paused_queues(connection: Connection | None = None) -> list[Pause]:
    """The queues that are paused, by name."""
    if connection is None:
        with autocommit() as own:
            return paused_queues(own)
    return [Pause(**row) for row in fetch(connection, SQL["paused_queues"])]


def list_queues(connection: Connection | None = None) -> list[Queue]:
    """Every queue that has an open run, a living worker or a pause, or that the settings name; by name."""
    if connection is None:
        with autocommit() as own:
            return list_queues(own)
    settings = get_settings()
    values = {"timeout": settings.worker_timeout_seconds, "named": [settings.default_queue, *settings.queues]}
    return [Queue(**row) for row in fetch(connection, SQL["list_queues"], values)]
