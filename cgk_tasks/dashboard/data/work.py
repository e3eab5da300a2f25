"""How the runs of an event or a job went over time, of what the leader of the workers has counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from cgk_tasks.dashboard.data.overview import Span, bar_of, whole_of
from cgk_tasks.dashboard.data.overview_charts import Bar
from cgk_tasks.dashboard.data.queries import if_migrated
from cgk_tasks.runs.work_times import percentile
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import Connection, Row, fetch, statements

SQL = statements("work")

SPANS: Final[Mapping[str, Span]] = {
    "1h": Span("last hour", timedelta(minutes=1), 60, 60, 60),
    "24h": Span("last 24 hours", timedelta(hours=1), 24, 3_600, 3_600),
    "7d": Span("last 7 days", timedelta(hours=3), 56, 3_600, 3_600),
}
_LAG: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Lengths:
    """How many runs took so long, by buckets."""

    buckets: Mapping[int, int] = field(default_factory=dict)

    @property
    def runs(self) -> int:
        return sum(self.buckets.values())

    @property
    def p50(self) -> float | None:
        return percentile(self.buckets, 50)

    @property
    def p95(self) -> float | None:
        return percentile(self.buckets, 95)

    @property
    def p99(self) -> float | None:
        return percentile(self.buckets, 99)


@dataclass(frozen=True, slots=True)
class WorkBar:
    """What was counted in a time. ran, waited: of the last attempts of the runs that completed or failed in it."""

    counts: Bar
    ran: Lengths
    waited: Lengths

    @property
    def failure_rate(self) -> float | None:
        """Failed of those that completed or failed, from 0 to 1; None where there are none."""
        ended = self.counts.completed + self.counts.failed
        return self.counts.failed / ended if ended else None


@dataclass(frozen=True, slots=True)
class Work:
    """whole: all bars together. counted_from: nothing before it is counted, where that is in the time that is shown.
    is_behind: what is older than some minutes has not been counted to the end yet.
    """

    bars: tuple[WorkBar, ...]
    whole: WorkBar
    counted_from: datetime | None
    counted_until: datetime
    is_behind: bool


def work_of_event(event: str, span: Span) -> Work | None:
    """All runs of an event; None before `cgk-tasks migrate`. Raises QueryTimeoutError."""
    return if_migrated(lambda connection: _work(connection, span, [event], None))


def work_of_job(job: str, span: Span) -> Work | None:
    """All runs of a job, whatever its event is or was; None before `cgk-tasks migrate`. Raises QueryTimeoutError."""

    def read(connection: Connection) -> Work:
        events = [row["event"] for row in fetch(connection, SQL["events_of_job"], {"job": job})]
        return _work(connection, span, events, job)

    return if_migrated(read)


def _work(connection: Connection, span: Span, events: list[str], job: str | None) -> Work:
    now = known_now()
    since = span.begin(now)
    values = {
        "bar": span.bar.total_seconds(), "seconds": span.seconds, "since": since, "events": events, "job": job,
    }  # fmt: skip
    progress = fetch(connection, SQL["progress"])[0]
    counts = {row["begin"]: row for row in fetch(connection, SQL["counts"], values)}
    times = fetch(connection, SQL["times"], values)
    moments = [since + span.bar * nth for nth in range(span.bars)]
    bars = tuple(_bar(moment, span.bar, counts.get(moment), times) for moment in moments)
    whole = WorkBar(whole_of([bar.counts for bar in bars]), _lengths(times, "ran"), _lengths(times, "waited"))
    counted_from: datetime = progress["by_work_since"]
    return Work(
        bars, whole, counted_from if counted_from > since else None, progress["sure_until"],
        progress["sure_until"] < now - _LAG,
    )  # fmt: skip


def _bar(begin: datetime, length: timedelta, row: Row | None, times: Sequence[Row]) -> WorkBar:
    here = [one for one in times if one["begin"] == begin]
    return WorkBar(bar_of(begin, length, row, None), _lengths(here, "ran"), _lengths(here, "waited"))


def _lengths(rows: Sequence[Row], column: str) -> Lengths:
    buckets: Counter[int] = Counter()
    for row in rows:
        if row[column]:
            buckets[row["bucket"]] += row[column]
    return Lengths(buckets)


@dataclass(frozen=True, slots=True)
class Ended:
    """How the runs of an event or a job went in a day. events: of a job. accepted: of an event."""

    accepted: int = 0
    completed: int = 0
    failed: int = 0
    events: tuple[str, ...] = ()
    ran: Lengths = field(default_factory=Lengths)

    @property
    def failure_rate(self) -> float | None:
        ended = self.completed + self.failed
        return self.failed / ended if ended else None


def day_of_events() -> dict[str, Ended]:
    """The events of which runs were sent or closed in the last 24 hours."""
    rows = if_migrated(lambda connection: fetch(connection, SQL["of_events"], _a_day())) or []
    return {row["event"]: Ended(row["accepted"], row["completed"], row["failed"]) for row in rows}


def day_of_jobs() -> dict[str, Ended]:
    """The jobs of which runs closed in the last 24 hours."""

    def read(connection: Connection) -> tuple[list[Row], list[Row]]:
        values = _a_day()
        return fetch(connection, SQL["of_jobs"], values), fetch(connection, SQL["times_of_jobs"], values)

    counts, times = if_migrated(read) or ([], [])
    by_job: dict[str, list[Row]] = {}
    for row in times:
        by_job.setdefault(row["job"], []).append(row)
    return {
        row["job"]: Ended(
            0, row["completed"], row["failed"], tuple(row["events"]), _lengths(by_job.get(row["job"], ()), "ran")
        )
        for row in counts
    }


def _a_day() -> dict[str, Any]:
    span = SPANS["24h"]
    return {"seconds": span.seconds, "since": span.begin(known_now())}
