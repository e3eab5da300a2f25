"""The pictures of the first page: runs by how they went, and queues by how long they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cgk_tasks.dashboard.charts import COLOURS, Series, lined, stacked
from cgk_tasks.dashboard.display import duration
from cgk_tasks.sql.postgres import Row


@dataclass(frozen=True, slots=True)
class Bar:
    """What was counted from `begin` to `end`. other: closed in another way, such as expired.

    waiting, oldest_seconds: the most that waited in any queue together, and the longest wait; None for one tenant.
    """

    begin: datetime
    end: datetime
    accepted: int = 0
    started: int = 0
    retried: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0
    other: int = 0
    waiting: int | None = None
    oldest_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """picture: SVG."""

    title: str
    picture: str


def charts_of_runs(bars: Sequence[Bar], bar: timedelta, tenant_id: str) -> Iterator[Chart]:
    """What was accepted, and what closed and how."""
    moments = [one.begin for one in bars]
    whose = f" of {tenant_id}" if tenant_id else ""
    accepted = [Series("accepted", tuple(float(one.accepted) for one in bars), look="accepted")]
    closed = [
        Series(name, tuple(float(getattr(one, name)) for one in bars), look=name)
        for name in ("completed", "failed", "cancelled")
    ]
    closed.append(Series("expired, unhandled", tuple(float(one.other) for one in bars), is_rest=True))
    for name, title, series in (
        ("accepted", f"Runs accepted{whose}", accepted), ("closed", f"Runs closed{whose}", closed),
    ):  # fmt: skip
        said = ", ".join(f"{one.label} {sum(one.values):,.0f}" for one in series)
        picture = stacked(series, moments, name=name, title=title, description=_described(said, bar), bar=bar)
        yield Chart(title, picture)


def chart_of_depths(rows: Sequence[Row], moments: Sequence[datetime], bar: timedelta) -> Chart:
    """How many runs waited in each queue, at most."""
    series = _by_queue(rows, moments, "waiting", is_sum=True)
    said = ", ".join(f"{one.label} at most {max(one.values):,.0f}" for one in series) or "nothing waited"
    title = "Runs that waited, by queue"
    picture = stacked(series, moments, name="depths", title=title, description=_described(said, bar), bar=bar)
    return Chart(title, picture)


def chart_of_ages(rows: Sequence[Row], moments: Sequence[datetime], bar: timedelta) -> Chart:
    """How long the first run of each queue had waited, at most."""
    series = _by_queue(rows, moments, "oldest_seconds", is_sum=False)
    said = ", ".join(f"{one.label} at most {duration(max(one.values))}" for one in series) or "nothing waited"
    title = "The longest wait, by queue"
    picture = lined(series, moments, name="ages", title=title, description=_described(said, bar), unit=" s", bar=bar)
    return Chart(title, picture)


def _described(said: str, bar: timedelta) -> str:
    return f"By {duration(bar.total_seconds())} of UTC: {said}. The table below has the same."


def _by_queue(rows: Sequence[Row], moments: Sequence[datetime], column: str, *, is_sum: bool) -> list[Series]:
    """The queues with the largest values, and the others together."""
    place_of = {moment: place for place, moment in enumerate(moments)}
    found: dict[str, list[float]] = {}
    for row in rows:
        if row["begin"] in place_of:
            found.setdefault(row["queue"], [0.0] * len(moments))[place_of[row["begin"]]] = float(row[column])
    ranked = sorted(found, key=lambda queue: (-max(found[queue]), queue))
    series = [Series(queue, tuple(found[queue])) for queue in ranked[:COLOURS]]
    if rest := ranked[COLOURS:]:
        together = sum if is_sum else max
        values = tuple(float(together(values)) for values in zip(*(found[queue] for queue in rest), strict=True))
        series.append(Series(f"{len(rest):,} other queues", values, is_rest=True))
    return series
