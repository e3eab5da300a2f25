"""The lanes of a queue or of a tenant: what waits in each, and what keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from cgk_tasks.dashboard.display import utc
from cgk_tasks.sql.postgres import Connection, Row, fetch, statements

SQL = statements("lanes")

MOST_LANES: Final = 100
COUNT_TO: Final = 1_000
"""How many waiting runs of a lane are counted."""


@dataclass(frozen=True, slots=True)
class LaneLine:
    """A lane as of now. waiting: COUNT_TO + 1 for more than COUNT_TO. oldest: since when its first run has been due.

    state, why: what keeps it. share: its tenant's part of the queue by weight, among those of which something may
    start; used: the part that the tenant had in the last hour, None where that is not known.
    """

    queue: str
    tenant_id: str
    event: str
    priority: int
    waiting: int
    oldest: datetime | None
    state: str
    why: str
    weight: float
    share: float
    used: float | None = None


@dataclass(frozen=True, slots=True)
class Lanes:
    """Those that wait longest, and how many lanes and tenants wait in all."""

    lines: tuple[LaneLine, ...]
    lanes: int
    tenants: int


def lanes_of(connection: Connection, *, queue: str | None = None, tenant_id: str | None = None) -> Lanes:
    """The lanes in which runs wait, of a queue, of a tenant, or of a tenant in a queue."""
    values: dict[str, Any] = {"queue": queue, "tenant_id": tenant_id, "limit": MOST_LANES, "count_to": COUNT_TO + 1}
    rows = fetch(connection, SQL["lanes"], values)
    if not rows:
        return Lanes((), 0, 0)
    return Lanes(tuple(map(_line, rows)), rows[0]["lanes"], rows[0]["tenants"])


@dataclass(frozen=True, slots=True)
class ShareLine:
    """A tenant's share in a queue. others: tenants besides it of which something may start. used: the part that it had
    in the last hour, None where that is not known.
    """

    queue: str
    weight: float
    share: float
    others: int
    used: float | None = None


def shares_of(connection: Connection, tenant_id: str) -> list[ShareLine]:
    """A tenant's shares, by queue."""
    rows = fetch(connection, SQL["shares_of_tenant"], {"tenant_id": tenant_id, "limit": MOST_LANES})
    return [ShareLine(row["queue"], row["weight"], row["share"], row["tenants"]) for row in rows]


def _line(row: Row) -> LaneLine:
    state, why = _state(row)
    return LaneLine(
        row["queue"], row["tenant_id"], row["event"], row["priority"], row["waiting"], row["oldest"], state, why,
        row["weight"], row["share"],
    )  # fmt: skip


def _state(row: Row) -> tuple[str, str]:
    if row["is_suspended"]:
        return "suspended", "Its tenant is suspended."
    if row["is_paused"]:
        return "paused", "It is paused."
    if row["status"] in {"full", "closed"}:
        return row["status"], _kept_by(row)
    if row["status"] == "new":
        return "new", "The next pass looks at it."
    return "open", "Its turn comes by its tenant's share."


def _kept_by(row: Row) -> str:
    limit = row["rule"] if row["job"] else "the limit of all jobs of its tenant"
    if row["gate"] is None:
        return "Its limit is gone; the next pass looks at it."
    if row["status"] == "full":
        return f"No place at {limit} ({row['at_once']:,} at once)."
    opens = f", opens {utc(row['opens_at'])} UTC" if row["opens_at"] is not None else ""
    numbers = f" ({row['rate']:,} in {row['period']:g} s)" if row["rate"] is not None else ""
    return f"Closed by {limit}{numbers}{opens}."
