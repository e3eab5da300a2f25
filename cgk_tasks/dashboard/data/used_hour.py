"""What tenants had of a queue's workers in the last hour, as a picture and as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cgk_tasks.dashboard.charts import COLOURS, Series, stacked
from cgk_tasks.dashboard.display import took, utc
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import Connection, Row, fetch, statements

SQL = statements("used_shares")

MINUTES: Final = 60
COLUMN_MINUTES: Final = 10
"""Of a column of the table."""


@dataclass(frozen=True, slots=True)
class Used:
    """A line of the table: seconds of each of its columns. part: of all that was used."""

    name: str
    columns: tuple[float, ...]
    seconds: float
    part: float
    is_rest: bool


@dataclass(frozen=True, slots=True)
class UsedHour:
    """begins: of the table's columns. seconds: of all lines together. picture: SVG."""

    begins: tuple[datetime, ...]
    lines: tuple[Used, ...]
    seconds: float
    picture: str


def hour_of_queue(connection: Connection, queue: str) -> UsedHour:
    """The shares of a queue by tenant."""
    since = begin_of_hour()
    rows = fetch(connection, SQL["of_queue"], {"queue": queue, "since": since, "top": COLOURS})
    return used_hour(rows, since, rest="{} other tenants", title=f"What tenants had of the workers of queue {queue}")


def hour_of_tenant(connection: Connection, tenant_id: str, queues: Sequence[str]) -> UsedHour:
    """What a tenant had of these queues."""
    since = begin_of_hour()
    values = {"queues": list(queues), "tenant_id": tenant_id, "since": since, "top": COLOURS}
    rows = fetch(connection, SQL["of_tenant"], values)
    return used_hour(rows, since, rest="{} other queues", title=f"What {tenant_id} had of the workers of each queue")


def used_parts(connection: Connection, queue: str, tenants: Sequence[str], seconds: float) -> dict[str, float]:
    """The part of a queue that each of these tenants had, of so many seconds in all."""
    if not seconds:
        return {}
    values = {"queue": queue, "tenants": list(set(tenants)), "since": begin_of_hour()}
    return {row["tenant_id"]: row["seconds"] / seconds for row in fetch(connection, SQL["of_tenants"], values)}


def parts_of_tenant(connection: Connection, tenant_id: str, queues: Sequence[str]) -> dict[str, float]:
    """The part of each queue that a tenant had."""
    values = {"queues": list(queues), "tenant_id": tenant_id, "since": begin_of_hour()}
    rows = fetch(connection, SQL["totals"], values)
    return {row["queue"]: row["of_tenant"] / row["seconds"] for row in rows if row["seconds"]}


def begin_of_hour() -> datetime:
    """The begin of the first of the last sixty minutes. The last of them goes on."""
    return known_now().replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)


def used_hour(rows: Sequence[Row], since: datetime, *, rest: str, title: str) -> UsedHour:
    """Rows of name and minute, the name with most first and the others together as ''."""
    by_name: dict[str, list[float]] = {}
    for row in rows:
        place = round((row["minute"] - since).total_seconds() / 60)
        if 0 <= place < MINUTES:
            by_name.setdefault(row["name"], [0.0] * MINUTES)[place] += row["seconds"]
    others = rows[0]["names"] - COLOURS if rows else 0
    series = [
        Series(name or rest.format(f"{others:,}"), tuple(values), is_rest=not name) for name, values in by_name.items()
    ]
    whole = sum(sum(one.values) for one in series)
    lines = tuple(_line(one, whole) for one in series)
    minutes = [since + timedelta(minutes=nth) for nth in range(MINUTES)]
    parts = ", ".join(f"{one.name} {one.part:.0%}" for one in lines) or "nothing ran"
    described = (
        f"Seconds of the workers' processes by minute, from {utc(since)} UTC on, {took(whole)} in all: {parts}. "
        "The table beside it has the same by ten minutes."
    )
    picture = stacked(series, minutes, name="shares", title=title, description=described, unit=" s")
    return UsedHour(tuple(minutes[::COLUMN_MINUTES]), lines, whole, picture)


def _line(one: Series, whole: float) -> Used:
    columns = tuple(sum(one.values[at : at + COLUMN_MINUTES]) for at in range(0, MINUTES, COLUMN_MINUTES))
    seconds = sum(one.values)
    return Used(one.label, columns, seconds, seconds / whole if whole else 0.0, one.is_rest)
