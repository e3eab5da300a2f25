"""The open runs, counted: a pass over the table of open runs,
which is kept so long that counting stays a small load.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from cgk_tasks.config import get_settings
from cgk_tasks.sql.postgres import Row, autocommit, fetch, fetch_or_before, statements

SQL = statements("metrics")

_KEPT_SECONDS = 5.0
_SHARE_OF_TIME = 0.05


@dataclass(frozen=True, slots=True)
class OpenRuns:
    """groups: rows of event, queue, state, gate, runs, oldest_seconds. tenants: rows of tenant_id, runs,
    oldest_seconds.
    """

    groups: Sequence[Row]
    tenants: Sequence[Row]
    seconds: float
    """How long PostgreSQL took to count."""

    counted_at: float = field(default_factory=time.monotonic)

    @property
    def age_seconds(self) -> float:
        return time.monotonic() - self.counted_at


class OpenRunsCounter:
    """Counts anew at most every 5 s, and so seldom that counting takes at most a twentieth of the time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: OpenRuns | None = None

    def read(self) -> OpenRuns:
        """The last count while it is fresh, else a new one. Raises psycopg.Error when PostgreSQL is away."""
        with self._lock:
            if self._last is None or self._last.age_seconds > max(_KEPT_SECONDS, self._last.seconds / _SHARE_OF_TIME):
                self._last = count_open_runs()
            return self._last


def count_open_runs() -> OpenRuns:
    """Count now. The rows of tenants: those with most open runs, and `""` for all others together."""
    settings = get_settings()
    with autocommit() as connection:
        served = fetch(connection, SQL["served_queues"], {"timeout": settings.worker_timeout_seconds})
        values = {"queues": [row["queue"] for row in served], "top": settings.metrics_top_tenants}
        begun = time.monotonic()
        rows = fetch_or_before(connection, SQL["open_runs"], SQL["open_runs_before_lanes"], values)
        seconds = time.monotonic() - begun
    return OpenRuns(
        groups=[row for row in rows if row["tenant_id"] is None],
        tenants=[row for row in rows if row["tenant_id"] is not None],
        seconds=seconds,
    )
