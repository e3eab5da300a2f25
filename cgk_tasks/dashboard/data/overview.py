"""The first page: what came in and how it went over time, what waits, and who needs a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.data.dead_letters import count_dead_letters
from cgk_tasks.dashboard.data.overview_charts import Bar, Chart, chart_of_ages, chart_of_depths, charts_of_runs
from cgk_tasks.dashboard.data.queries import if_migrated
from cgk_tasks.dashboard.data.run_search import count_open
from cgk_tasks.flow.queues import Queue, list_queues
from cgk_tasks.runs.models import State
from cgk_tasks.schedules.health import LateSchedule, late_schedules, leading_beat
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import Connection, Row, fetch, statements

SQL = statements("overview")

TOP: Final = 8
MOST_QUEUES: Final = 20
_LAG: Final = timedelta(minutes=10)
"""Counts that are further behind than this are not those of the last minutes."""


@dataclass(frozen=True, slots=True)
class Span:
    """A time until now. bar: the time that each bar of a chart stands for. Counts of `seconds` are read for them, and
    of `top_seconds` to find the tenants that come first.
    """

    name: str
    bar: timedelta
    bars: int
    seconds: int
    top_seconds: int

    def begin(self, now: datetime) -> datetime:
        """Of the first bar. The last one goes on."""
        return _floor(now, self.bar) - self.bar * (self.bars - 1)

    def top_begin(self, now: datetime) -> datetime:
        """From when on the tenants that come first are counted."""
        whole = timedelta(minutes=30) if self.top_seconds == 60 else timedelta(seconds=self.top_seconds)
        return _floor(self.begin(now), whole)


SPANS: Final[Mapping[str, Span]] = {
    "1h": Span("last hour", timedelta(minutes=1), 60, 60, 60),
    "24h": Span("last 24 hours", timedelta(minutes=30), 48, 60, 3_600),
    "7d": Span("last 7 days", timedelta(hours=3), 56, 3_600, 86_400),
}


@dataclass(frozen=True, slots=True)
class Ranked:
    """A tenant with what it is ranked by. part: of what all tenants had."""

    tenant_id: str
    amount: float
    part: float = 0.0


@dataclass(frozen=True, slots=True)
class Counted:
    """What the leader has counted. whole: all bars together. is_behind: it has not come to the last minutes yet."""

    bars: tuple[Bar, ...]
    whole: Bar
    charts: tuple[Chart, ...]
    busiest: tuple[Ranked, ...]
    failing: tuple[Ranked, ...]
    top_since: datetime
    counted_until: datetime
    is_behind: bool


@dataclass(frozen=True, slots=True)
class Overview:
    """counted: None before `cgk-tasks migrate`. queues: those in which most waits."""

    counted: Counted | None
    open: Mapping[State, int]
    dead_letters: int
    workers: int
    processes: int
    queues: Sequence[Queue] = ()
    queues_in_all: int = 0
    late: Sequence[LateSchedule] = ()
    has_beat: bool = True


def overview(span: Span, tenant_id: str = "") -> Overview:
    """Everything on the page, of one tenant or of all. Raises QueryTimeoutError."""
    counted = if_migrated(lambda connection: _counted(connection, span, tenant_id))
    alive = if_migrated(_workers) or {"workers": 0, "processes": 0}
    queues = [] if tenant_id else if_migrated(list_queues) or []
    fullest = sorted(queues, key=lambda one: (-(one.waiting + one.held), one.queue))
    return Overview(
        counted, count_open(tenant_id), count_dead_letters(tenant_id), alive["workers"], alive["processes"],
        fullest[:MOST_QUEUES], len(queues), late_schedules(), leading_beat() is not None,
    )  # fmt: skip


def _workers(connection: Connection) -> Row:
    return fetch(connection, SQL["workers"], {"timeout": get_settings().worker_timeout_seconds})[0]


def _counted(connection: Connection, span: Span, tenant_id: str) -> Counted:
    now = known_now()
    since, top_since = span.begin(now), span.top_begin(now)
    sure_until = fetch(connection, SQL["sure_until"])[0]["sure_until"]
    values = {"bar": span.bar.total_seconds(), "seconds": span.seconds, "since": since, "tenant_id": tenant_id}
    rows = {row["begin"]: row for row in fetch(connection, SQL["counts"], values)}
    depths = [] if tenant_id else fetch(connection, SQL["depths"], values)
    moments = [since + span.bar * nth for nth in range(span.bars)]
    bars = tuple(bar_of(moment, span.bar, rows.get(moment), None if tenant_id else depths) for moment in moments)
    whole = whole_of(bars)
    charts = list(charts_of_runs(bars, span.bar, tenant_id))
    if not tenant_id:
        charts += [chart_of_depths(depths, moments, span.bar), chart_of_ages(depths, moments, span.bar)]
    tops = {"seconds": span.top_seconds, "since": top_since, "top": TOP}
    busiest = [] if tenant_id else fetch(connection, SQL["busiest"], tops)
    failing = [] if tenant_id else fetch(connection, SQL["failing"], tops)
    return Counted(
        bars, whole, tuple(charts),
        tuple(Ranked(row["tenant_id"], row["seconds"], row["seconds"] / (row["whole"] or 1)) for row in busiest),
        tuple(Ranked(row["tenant_id"], row["failed"]) for row in failing),
        top_since, sure_until, sure_until < now - _LAG,
    )  # fmt: skip


def bar_of(begin: datetime, length: timedelta, row: Row | None, depths: Sequence[Row] | None) -> Bar:
    """A row of counts as a bar. depths: of queues; None where they are not shown."""
    counts: dict[str, Any] = {}
    if row is not None:
        counts = {name: row[name] for name in ("accepted", "started", "retried")}
        ends = {name: row[name] for name in ("completed", "failed", "cancelled")}
        counts |= ends | {"other": row["closed"] - sum(ends.values())}
    if depths is not None:
        here = [one for one in depths if one["begin"] == begin]
        counts["waiting"] = sum(one["waiting"] for one in here)
        counts["oldest_seconds"] = max((one["oldest_seconds"] for one in here), default=0.0)
    return Bar(begin, begin + length, **counts)


def whole_of(bars: Sequence[Bar]) -> Bar:
    """All of them together."""
    names = ("accepted", "started", "retried", "completed", "failed", "cancelled", "other")
    return Bar(bars[0].begin, bars[-1].end, *(sum(getattr(bar, name) for bar in bars) for name in names))


def _floor(moment: datetime, length: timedelta) -> datetime:
    """The last whole multiple of a length before a moment, in UTC."""
    seconds = length.total_seconds()
    return datetime.fromtimestamp(moment.timestamp() // seconds * seconds, UTC)
