"""Who executes a run that this worker has no job for.

Workers of one queue may know different events: during a deployment, or because CGK_JOB_MODULES differs. Each says on
record what it executes, so a run is closed as unhandled only where no living worker of its queue could take it.
"""

from __future__ import annotations

import time

from cgk_tasks.config import get_settings
from cgk_tasks.recurring import Reminders
from cgk_tasks.runs.store import Claimed
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, fetch, statements

SQL = statements("dispatch")

_TRUST_SECONDS = 1.0


def executed_name(event: str, job: str | None) -> str:
    """How workers say that they execute an event, or one job of an event that has several."""
    return event if job is None else f"{event}:{job}"


class Executors:
    """What this process knows of the other workers, as of a moment ago."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[float, bool]] = {}
        self._reminders = Reminders()

    def exist_elsewhere(self, run: Claimed, worker_id: str) -> bool:
        """Whether another living worker of the run's queue executes it, or is of a release that does not say."""
        key = run.queue, executed_name(run.event, run.job)
        now = time.monotonic()
        looked_at, found = self._known.get(key, (0.0, False))
        if looked_at and now - looked_at < _TRUST_SECONDS:
            return found
        values = {"queue": key[0], "name": key[1], "id": worker_id, "timeout": get_settings().worker_timeout_seconds}
        with autocommit() as connection:
            found = bool(fetch(connection, SQL["other_executors"], values)[0]["found"])
        self._known[key] = now, found
        return found

    def is_to_be_said(self, run: Claimed) -> bool:
        """Whether it is time to say that runs of the kind are held: once a minute, since each comes by every second."""
        return self._reminders.is_time((run.queue, executed_name(run.event, run.job)))


EXECUTORS = Part(Executors)
