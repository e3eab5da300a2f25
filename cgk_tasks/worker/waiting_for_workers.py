"""After a crash of PostgreSQL nobody claims before each worker has said what it runs: who is waited for is logged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import structlog

from cgk_tasks.config import get_settings

log = structlog.get_logger("cgk_tasks.worker")

REMIND_SECONDS: Final = 15.0


class WaitingForWorkers:
    """What one worker says of it: when it begins, now and then, and when it is over."""

    def __init__(self) -> None:
        self._waits = False
        self._remind_at = 0.0

    def heard_of(self, workers: Sequence[str]) -> None:
        """These workers bar all claims now."""
        if not workers:
            if self._waits:
                self._waits = False
                log.warning("claims_go_on")
            return
        now = time.monotonic()
        if not self._waits or now >= self._remind_at:
            self._waits, self._remind_at = True, now + REMIND_SECONDS
            log.warning(
                "claims_wait_for_workers",
                workers=list(workers),
                reason="PostgreSQL has crashed, and these have not said since what they run.",
                hint=f"One that stays silent counts as dead after {get_settings().worker_timeout_seconds:g} s.",
            )
