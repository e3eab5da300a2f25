"""What a day of benchmarks/soak.py looked like: figures by their time, and what of them has to stay flat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from soak_day import Day
from soak_figures import Sample
from soak_record import Count, Late, Record
from soak_verdict import MORNING, Points, Verdict, compared

MEMORY = {
    "worker": "main process of the worker",
    "worker's child": "a child of the worker",
    "beat": "beat",
    "sender": "sender",
    "dashboard": "dashboard",
    "metrics": "exporter of metrics",
    "PostgreSQL": "all processes of PostgreSQL, without its buffers",
    "Redis": "Redis, as it says itself",
}
"""Kinds of processes, and what is meant by their memory."""

_FEW = 0.002
"""Of the day's runs: a part of the day with fewer says little of what each costs."""


@dataclass(frozen=True)
class Seen:
    """every: seconds between samples. day_seconds: how long the day lasted, `waited` seconds of which it stood still.
    drain_seconds: from its end to that of the last run. pages: when the dashboard was asked for a page, and how long it
    took.
    """

    day: Day
    every: float
    day_seconds: float
    waited: float
    drain_seconds: float
    samples: Sequence[Sample]
    record: Record
    counts: Sequence[Count]
    pages: Points

    def by_time(self, figure: Callable[[Sample], float | None]) -> Points:
        """A figure of each sample that has it, by the part of the day."""
        values = ((one.at / self.day_seconds, figure(one)) for one in self.samples)
        return [(at, value) for at, value in values if value is not None]

    def a_run(self, figure: Callable[[Sample], float]) -> Points:
        """What each run has taken of a figure that only grows, from sample to sample."""
        found = []
        for before, after in pairwise(self.samples):
            runs = self.ended(before, after)
            if runs > _FEW * self.day.runs:
                found.append((after.at / self.day_seconds, (figure(after) - figure(before)) / runs))
        return found

    def ended(self, before: Sample, after: Sample) -> int:
        """How many runs have ended between two samples."""
        first, last = round(before.at / self.every), round(after.at / self.every)
        return sum(self.record.closed.get(nth, 0) for nth in range(first, last))

    def late(self, of: Mapping[int, Late], percent: str) -> Points:
        """How late runs have started, in seconds."""
        parts = ((nth, (nth + 1) * self.every / self.day_seconds) for nth in sorted(of))
        return [(at, getattr(of[nth], percent)) for nth, at in parts if at <= 1.01]

    @cached_property
    def verdicts(self) -> list[Verdict]:
        return list(_verdicts(self))

    @property
    def is_right(self) -> bool:
        return all(one.is_right for one in self.counts) and not any(one.is_flat is False for one in self.verdicts)


def _verdicts(seen: Seen) -> Iterator[Verdict]:
    for kind, meaning in MEMORY.items():
        points = seen.by_time(lambda one, kind=kind: one.memory.get(kind))
        yield compared(f"memory: {meaning}", "MB", points, part=0.1, slack=10)
    sizes: dict[str, Callable[[Sample], float]] = {
        "cgk.runs, table": lambda one: one.tables["runs"].heap,
        "cgk.runs, indexes": lambda one: one.tables["runs"].indexes,
        "other tables that keep nothing of the past": lambda one: one.worked_on,
        "PostgreSQL's own catalog": lambda one: one.catalog,
    }
    for what, size in sizes.items():
        yield compared(f"size: {what}", "MB", seen.by_time(size), part=0.2, slack=8, of=max)
    dead: dict[str, Callable[[Sample], float]] = {
        "cgk.runs": lambda one: one.tables["runs"].dead,
        "all other tables": lambda one: one.dead,
    }
    for what, figure in dead.items():  # autovacuum comes once a minute: what is there is as chance has it
        points = seen.by_time(figure)
        yield compared(f"dead rows: {what}", "", points, part=1.0, slack=20_000, before=MORNING, of=max)
    costs: dict[str, tuple[str, Callable[[Sample], float], float]] = {
        "WAL of a run": ("kB", lambda one: 1e3 * one.wal, 1.0),
        "kept of a run": ("kB", lambda one: 1e3 * one.kept, 0.5),
        "processor time of PostgreSQL for a run": ("ms", lambda one: 1e3 * one.processor["PostgreSQL"], 0.5),
        "processor time of the worker for a run": ("ms", lambda one: 1e3 * one.processor["worker"], 0.5),
    }
    for what, (unit, figure, slack) in costs.items():
        yield compared(what, unit, seen.a_run(figure), part=0.3, slack=slack, before=MORNING)
    times = {
        "due runs start late by, p99": seen.record.due,
        "runs of schedules start late by, p99": seen.record.ticks,
        "from send to start of those that write a row, p99": seen.record.waits,
    }
    for what, late in times.items():
        yield compared(what, "s", seen.late(late, "p99"), part=1.0, slack=1.0, before=MORNING)
    yield compared("a page of the dashboard", "s", seen.pages, part=1.0, slack=0.5, before=MORNING)
