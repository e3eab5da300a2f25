"""A worker that was started before `cgk-tasks migrate`: it says so once, then once a minute, and waits."""

from __future__ import annotations

import threading
import time
from typing import Final

import structlog

from cgk_tasks.sql import postgres

log = structlog.get_logger("cgk_tasks.worker")

REMIND_SECONDS: Final = 60.0


class MissingTables:
    """What the threads of one worker say of it together."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waits = False
        self._remind_at = 0.0

    def explains(self, exc: Exception) -> bool:
        """Whether the tables are missing, which is then logged if it is time to."""
        if not postgres.is_not_migrated(exc):
            return False
        with self._lock:
            now = time.monotonic()
            if now >= self._remind_at:
                self._waits, self._remind_at = True, now + REMIND_SECONDS
                log.warning(
                    "worker_waits_for_tables",
                    reason=str(postgres.explain(exc)),
                    hint="It begins to work once they are there; it need not be restarted.",
                )
        return True

    def are_there(self) -> None:
        """A heartbeat is on record."""
        if self._waits:
            with self._lock:
                self._waits = False
            log.info("tables_found")
