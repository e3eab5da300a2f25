"""A worker that was started before `cgk-tasks migrate`: it says so once, then once a minute, and waits."""

from __future__ import annotations

import structlog

from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.sql import postgres

log = structlog.get_logger("cgk_tasks.worker")


class MissingTables:
    """What the threads of one worker say of it together."""

    def __init__(self) -> None:
        self._missing = RecurringWarning(log, "worker_waits_for_tables", "tables_found")

    def are_there(self) -> None:
        """A heartbeat is on record."""
        self._missing.is_over()

    def explains(self, exc: Exception) -> bool:
        """Whether the tables are missing, which is then logged if it is time to."""
        if not postgres.is_not_migrated(exc):
            return False
        self._missing.warn(
            reason=str(postgres.explain(exc)), hint="It begins to work once they are there; it need not be restarted."
        )
        return True
