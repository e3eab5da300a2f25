"""How many deliveries of each source had which outcome: on record, over all gateways.

They are added up in the process and written at most once a second, so a flood of bad signatures costs PostgreSQL
nothing. A process that is killed loses the counts of its last second, and no delivery.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import psycopg
import structlog

from cgk_tasks.errors import CgkTasksError
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sql.postgres import autocommit, execute, fetch_or_before, statements

SQL = statements("inbound")
log = structlog.get_logger("cgk_tasks.gateway")

Outcome = Literal["accepted", "duplicate", "ignored", "refused", "unmapped", "failed"]

_EVERY_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class DeliveryCount:
    """Deliveries of one source with one outcome, since ever, and when the last one came."""

    source: str
    outcome: str
    deliveries: int
    last_at: datetime


class DeliveryCounts:
    """What this process has not written yet."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counted: Counter[tuple[str, str]] = Counter()
        self._written_at = -_EVERY_SECONDS
        self._timer: threading.Timer | None = None
        self._runtime = current_runtime()
        self._away = RecurringWarning(log, "deliveries_not_counted", "deliveries_counted")

    def note(self, source: str, outcome: Outcome) -> None:
        """Count a delivery. Never raises."""
        with self._lock:
            self._counted[source, outcome] += 1
            if self._timer is not None:
                return
            pause = self._written_at + _EVERY_SECONDS - time.monotonic()
            if pause > 0:
                self._timer = threading.Timer(pause, self.write)
                self._timer.daemon = True
                self._timer.start()
                return
        self.write()

    def write(self) -> None:
        """Put what was counted on record. Never raises; what cannot be written is kept for the next time."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            self._written_at, self._timer = time.monotonic(), None
        if not counted:
            return
        names = [*counted]
        values = {
            "source": [source for source, _ in names], "outcome": [outcome for _, outcome in names],
            "deliveries": [counted[name] for name in names],
        }  # fmt: skip
        try:
            with self._runtime.active(), autocommit() as connection:
                execute(connection, SQL["count_deliveries"], values)
        except (psycopg.Error, CgkTasksError) as exc:
            self._away.warn(reason=str(exc).strip())
            with self._lock:
                self._counted += counted
        else:
            self._away.is_over()


COUNTS = Part(DeliveryCounts, close=DeliveryCounts.write)


def delivery_counts() -> list[DeliveryCount]:
    """What is on record; nothing before the table is there. Raises psycopg.Error."""
    with autocommit() as connection:
        rows = fetch_or_before(connection, SQL["delivery_counts"], SQL["no_delivery_counts"])
    return [DeliveryCount(**row) for row in rows]
