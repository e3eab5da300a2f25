"""After a crash of PostgreSQL nobody claims before each worker has said what it runs: who is waited for is logged."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.recurring import RecurringWarning

log = structlog.get_logger("cgk_tasks.worker")

REMIND_SECONDS: Final = 15.0


class WaitingForWorkers:
    """What one worker says of it: when it begins, now and then, and when it is over."""

    def __init__(self) -> None:
        self._waiting = RecurringWarning(
            log, "claims_wait_for_workers", "claims_go_on", counted="heartbeats", remind_seconds=REMIND_SECONDS
        )

    def heard_of(self, workers: Sequence[str]) -> None:
        """A heartbeat was told that these workers bar all claims now."""
        if not workers:
            self._waiting.is_over()
            return
        self._waiting.warn(
            workers=list(workers),
            reason="PostgreSQL has crashed, and these have not said since what they run.",
            hint=f"One that stays silent counts as dead after {get_settings().worker_timeout_seconds:g} s.",
        )
