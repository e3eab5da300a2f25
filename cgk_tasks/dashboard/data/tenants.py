"""What each tenant has open, how long it waits, and how often it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg

from cgk_tasks.dashboard.data.queries import SQL, read_transaction
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import fetch, is_not_migrated

PAGE_SIZE = 100
SUGGESTED = 200

_DAY_SECONDS: Final = 86_400
_COUNTED_BY: Final = ((60, 1), (3_600, 168))
"""Up to so many hours of closed runs are counted by so many seconds."""


@dataclass(frozen=True, slots=True)
class TenantCounts:
    """Open runs by state as of now; closed ones of the last hours. waiting_seconds: the age of the oldest due run."""

    id: str
    status: str
    source: str
    suspended_at: datetime | None
    suspended_by: str | None
    open: int
    pending: int
    running: int
    retrying: int
    held: int
    scheduled: int
    waiting_seconds: float | None
    closed: int
    completed: int
    failed: int

    @property
    def failure_rate(self) -> float | None:
        """Failed of those that completed or failed; None where there are none."""
        ended = self.completed + self.failed
        return self.failed / ended if ended else None


def tenant_counts(
    *, hours: int = 24, starts_with: str = "", after: str = "", busiest: bool = True, limit: int = PAGE_SIZE
) -> list[TenantCounts]:
    """Tenants with the most open and failed runs first, or (busiest=False) by id, from behind `after` on.

    hours: of closed runs. More than one are taken in whole hours of UTC, more than a week in whole days, as the leader
    has counted them. Raises QueryTimeoutError.
    """
    seconds = next((one for one, most in _COUNTED_BY if hours <= most), _DAY_SECONDS)
    since = (known_now().timestamp() - 3_600 * hours) // seconds * seconds
    values = {
        "hours": hours, "starts_with": starts_with or None, "after": after or None, "busiest": busiest, "limit": limit,
        "seconds": seconds, "since": datetime.fromtimestamp(since, UTC),
    }  # fmt: skip
    for statement in ("tenant_counts", "tenant_counts_before_counts"):
        try:
            return _counted(statement, values)
        except psycopg.Error as exc:
            if not is_not_migrated(exc):
                raise
    return _counted("tenant_counts_before_lanes", values)


def _counted(statement: str, values: Mapping[str, Any]) -> list[TenantCounts]:
    with read_transaction() as connection:
        return [TenantCounts(**row) for row in fetch(connection, SQL[statement], values)]


def tenant_ids(limit: int = SUGGESTED) -> list[str]:
    """The first of them by id."""
    with read_transaction() as connection:
        return [row["id"] for row in fetch(connection, SQL["tenant_ids"], {"limit": limit})]
