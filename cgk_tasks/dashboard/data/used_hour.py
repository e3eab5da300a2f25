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
    by_name = _by_name(rows, since)
    whole = by_name.pop("", [0.0] * MINUTES)
    rest = [max(0.0, of_all - sum(of_most)) for of_all, *of_most in zip(whole, *by_name.values(), strict=True)]
    series = [Series(name, tuple(values)) for name, values in by_name.items()]
    others = rows[0]["names"] - len(series) if rows else 0
    if others > 0:
        series.append(Series(f"{others:,} other {'tenant' if others == 1 else 'tenants'}", tuple(rest), is_rest=True))
    return used_hour(series, since, title=f"What tenants had of the workers of queue {queue}")


def hour_of_tenant(connection: Connection, tenant_id: str, queues: Sequence[str]) -> UsedHour:
    """What a tenant had of these queues."""
    since = begin_of_hour()
    values = {"queues": list(queues), "tenant_id": tenant_id, "since": since}
    by_name = _by_name(fetch(connection, SQL["of_tenant"], values), since)
    series = [Series(name, tuple(values)) for name, values in by_name.items()]
    if others := series[COLOURS:]:
        rest = [sum(values) for values in zip(*(one.values for one in others), strict=True)]
        series = [*series[:COLOURS], Series(f"{len(others):,} other queues", tuple(rest), is_rest=True)]
    return used_hour(series, since, title=f"What {tenant_id} had of the workers of each queue")


def used_parts(connection: Connection, queues: Sequence[str], tenants: Sequence[str]) -> dict[tuple[str, str], float]:
    """By queue and tenant, the part of the queue that the tenant had. Where nothing ran in a queue it has none."""
    values = {"queues": list(set(queues)), "tenants": ["", *set(tenants)], "since": begin_of_hour()}
    found = {(row["queue"], row["tenant_id"]): row["seconds"] for row in fetch(connection, SQL["sums"], values)}
    return {
        (queue, tenant): seconds / found[queue, ""] for (queue, tenant), seconds in found.items() if found[queue, ""]
    }


def _by_name(rows: Sequence[Row], since: datetime) -> dict[str, list[float]]:
    """Seconds by minute, in the order in which the names come."""
    by_name: dict[str, list[float]] = {}
    for row in rows:
        place = round((row["minute"] - since).total_seconds() / 60)
        if 0 <= place < MINUTES:
            by_name.setdefault(row["name"], [0.0] * MINUTES)[place] += row["seconds"]
    return by_name


def begin_of_hour() -> datetime:
    """The begin of the first of the last sixty minutes. The last of them goes on."""
    return known_now().replace(second=0, microsecond=0) - timedelta(minutes=MINUTES - 1)


def used_hour(series: Sequence[Series], since: datetime, *, title: str) -> UsedHour:
    """The table and the picture of seconds by minute."""
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
