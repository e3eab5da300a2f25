"""The pictures of the pages of events and jobs: how many runs, how many failed, how long they ran and waited."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from cgk_tasks.dashboard.charts import Series, lined
from cgk_tasks.dashboard.data.overview_charts import Chart, charts_of_runs
from cgk_tasks.dashboard.data.work import Lengths, WorkBar
from cgk_tasks.dashboard.display import duration, took


def charts_of_work(bars: Sequence[WorkBar], whole: WorkBar, bar: timedelta, *, is_job: bool) -> Iterator[Chart]:
    """Of a job no runs are accepted: which job a run has is known when it begins."""
    counted = charts_of_runs([one.counts for one in bars], bar, "")
    yield from list(counted)[1:] if is_job else counted
    yield _failures(bars, whole, bar)
    yield _lengths("ran", "How long runs took", bars, [one.ran for one in bars], whole.ran, bar)
    yield _lengths("waited", "How long runs waited", bars, [one.waited for one in bars], whole.waited, bar)


def _failures(bars: Sequence[WorkBar], whole: WorkBar, bar: timedelta) -> Chart:
    series = [Series("failed", tuple(100 * (one.failure_rate or 0.0) for one in bars), look="failed")]
    said = "none completed or failed" if whole.failure_rate is None else f"{100 * whole.failure_rate:.3g} % failed"
    title = "Failed of those that completed or failed"
    return Chart(title, _lined(bars, series, "failures", title, said, " %", bar))


def _lengths(
    name: str, title: str, bars: Sequence[WorkBar], lengths: Sequence[Lengths], whole: Lengths, bar: timedelta
) -> Chart:
    series = [
        Series(label, tuple(getattr(one, label) or 0.0 for one in lengths)) for label in ("p50", "p95", "p99")
    ]  # fmt: skip
    said = "none ended"
    if whole.runs:
        said = f"p50 {took(whole.p50)}, p95 {took(whole.p95)}, p99 {took(whole.p99)}"
    return Chart(title, _lined(bars, series, name, title, said, " s", bar))


def _lined(
    bars: Sequence[WorkBar], series: Sequence[Series], name: str, title: str, said: str, unit: str, bar: timedelta
) -> str:
    described = f"By {duration(bar.total_seconds())} of UTC: {said}. The table below has the same."
    moments = [one.counts.begin for one in bars]
    return lined(series, moments, name=name, title=title, description=described, unit=unit, bar=bar)
