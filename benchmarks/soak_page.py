"""The report of benchmarks/soak.py: what stays flat, what was done, a line for each part of the day, and a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import pairwise

import report
from picture import Curve, Panel, panels
from soak_day import KINDS
from soak_figures import Sample
from soak_record import Late
from soak_seen import Seen
from soak_verdict import Points, Verdict

COLUMNS = (
    "until", "ended", "open", "held", "worker", "child", "beat", "dashboard", "PostgreSQL", "Redis", "cgk.runs",
    "indexes", "dead there", "dead elsewhere", "WAL a run", "PostgreSQL a run", "due late, p50", "p99",
    "schedules late, p99", "row waits, p99", "processors",
)  # fmt: skip

_PROCESSES = ("worker", "worker's child", "beat", "dashboard", "PostgreSQL", "Redis")


def page(seen: Seen) -> str:
    """Markdown. Made while the servers are there, which say what they are."""
    day = seen.day
    shares = ", ".join(f"{part:.0%} {kind}" for kind, part in KINDS.items())
    return f"""# A day at full size

Made by `python benchmarks/soak.py --runs {day.runs} --tenants {day.tenants} --minutes {day.minutes:g}` on \
{datetime.now(UTC).date()}. The day took {seen.day_seconds / 60:.1f} minutes, of which it stood still for \
{seen.waited:.0f} s because the machine did not do more; after it the last run ended within {seen.drain_seconds:.0f} s.

- Machine: {report.machine()}; load average at the end: {os.getloadavg()[0]:.1f}
- Versions: {report.versions()}
- PostgreSQL: {report.postgres()}. Redis: {report.redis_server()}.
- One worker with two processes, one beat, one sender, the dashboard and the exporter of metrics, each looked at every
  ten seconds.
- Sent: {shares}. Twelve times a day one tenant sends a hundredth of all at once.

## What stays flat

{_table(("what", "before", "at the end", "at most", "flat"), map(_verdict_row, seen.verdicts))}
## What was done

{_table(("what", "expected", "found", ""), (_count_row(seen, nth) for nth in range(len(seen.counts))))}
## By the time

Memory in MB (the private part of PostgreSQL's), sizes in MB, lateness in seconds. Dead rows as PostgreSQL estimates
them. *Held* are runs that limits and fair shares let wait.

{_table(COLUMNS, _time_rows(seen))}"""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(columns) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, rule, *rows))


def _verdict_row(verdict: Verdict) -> list[str]:
    said = {None: "too little seen", True: "yes", False: "**no**"}[verdict.is_flat]
    figures = (verdict.before, verdict.after, verdict.most)
    return [verdict.what, *(_figure(one, verdict.unit) for one in figures), said]


def _count_row(seen: Seen, nth: int) -> list[str]:
    count = seen.counts[nth]
    return [count.what, f"{count.expected:,}", f"{count.found:,}", "" if count.is_right else "**wrong**"]


def _time_rows(seen: Seen) -> Iterator[list[str]]:
    for before, after in pairwise(seen.samples):
        nth, runs, table = round(before.at / seen.every), seen.ended(before, after), after.tables["runs"]
        due, ticks, waits = (of.get(nth) for of in (seen.record.due, seen.record.ticks, seen.record.waits))

        def each(name: str, unit: str, before: Sample = before, after: Sample = after, runs: int = runs) -> str:
            figure = _EACH[name]
            return _figure((figure(after) - figure(before)) / runs if runs else None, unit)

        yield [
            f"{after.at / 60:.1f} min",
            f"{runs / (after.at - before.at):,.0f}/s",
            f"{after.open_runs:,}",
            f"{after.held:,}",
            *(_figure(after.memory.get(kind), "") for kind in _PROCESSES),
            f"{table.heap:,.0f}",
            f"{table.indexes:,.0f}",
            f"{table.dead:,}",
            f"{after.dead:,}",
            each("written", "kB"),
            each("by PostgreSQL", "ms"),
            *(_figure(late, "") for late in (_of(due, "p50"), _of(due, "p99"), _of(ticks, "p99"), _of(waits, "p99"))),
            f"{after.busy:.0%}",
        ]


def _of(late: Late | None, percent: str) -> float | None:
    return None if late is None else getattr(late, percent)


def _figure(value: float | None, unit: str) -> str:
    if value is None:
        return ""
    number = f"{value:,.0f}" if abs(value) >= 100 or not value else f"{value:.3g}"
    return f"{number} {unit}".strip()


def picture(seen: Seen) -> str:
    """Small multiples, by minutes."""
    minutes = seen.day_seconds / 60
    of_samples = {name: seen.by_time(figure) for name, figure in _FIGURES.items()}
    of_runs = {name: seen.a_run(figure) for name, figure in _EACH.items()}
    others = {
        "a second": [
            (after.at / seen.day_seconds, seen.ended(before, after) / (after.at - before.at))
            for before, after in pairwise(seen.samples)
        ],
        "due runs": seen.late(seen.record.due, "p99"),
        "schedules": seen.late(seen.record.ticks, "p99"),
    }
    points: dict[str, Points] = {**of_samples, **of_runs, **others}

    def panel(title: str, unit: str, names: Sequence[str]) -> Panel:
        lines = [
            Curve(name, [(at * minutes, value) for at, value in points[name]], kind)
            for name, kind in zip(names, ("ours", "durable", "other"), strict=False)
        ]
        return Panel(title, unit, lines)

    about = f"{seen.day.runs:,} runs of {seen.day.tenants:,} tenants on one machine, with everything that they need"
    return panels("A day at full size", about, "minutes", [panel(*box) for box in _PANELS])


_FIGURES: dict[str, Callable[[Sample], float | None]] = {
    "all": lambda one: one.open_runs,
    "held": lambda one: one.held,
    "a child of the worker": lambda one: one.memory.get("worker's child"),
    "its main process": lambda one: one.memory.get("worker"),
    "dashboard": lambda one: one.memory.get("dashboard"),
    "beat": lambda one: one.memory.get("beat"),
    "sender": lambda one: one.memory.get("sender"),
    "PostgreSQL": lambda one: one.memory.get("PostgreSQL"),
    "Redis": lambda one: one.memory.get("Redis"),
    "table": lambda one: one.tables["runs"].heap,
    "indexes": lambda one: one.tables["runs"].indexes,
    "of cgk.runs": lambda one: one.tables["runs"].dead,
    "of all other tables": lambda one: one.dead,
}
_EACH: dict[str, Callable[[Sample], float]] = {
    "written": lambda one: 1e3 * one.wal,
    "by the worker": lambda one: 1e3 * one.processor["worker"],
    "by PostgreSQL": lambda one: 1e3 * one.processor["PostgreSQL"],
}
_PANELS = (
    ("Runs that end", "/s", ("a second",)),
    ("Open runs", "", ("all", "held")),
    ("Memory of the worker", "MB", ("a child of the worker", "its main process")),
    ("Memory of other processes", "MB", ("dashboard", "beat", "sender")),
    ("Memory of the servers", "MB", ("PostgreSQL", "Redis")),
    ("cgk.runs", "MB", ("table", "indexes")),
    ("Dead rows", "", ("of cgk.runs", "of all other tables")),
    ("WAL of a run", "kB", ("written",)),
    ("Processor time of a run", "ms", ("by the worker", "by PostgreSQL")),
    ("Late starts, p99", "s", ("due runs", "schedules")),
)
