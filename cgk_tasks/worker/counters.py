"""What a worker's processes count, in memory that they share with its main process, which serves it to Prometheus.

Each process of a prefork pool adds to a slot of its own. Its successor goes on with the slot, so a process that is
killed loses no count. A count is an addition in memory: no lock, no file, no message. Without `share` nothing
is counted.
"""

from __future__ import annotations

import mmap
import threading
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from billiard.process import current_process

ATTEMPT_OUTCOMES: Final = ("completed", "retry", "snooze", "suspended", "failed", "cancelled", "interrupted")
ENDS: Final = ("completed", "failed", "cancelled", "expired", "unhandled")
COUNTERS: Final = ("packets", "packet_runs", "deaths", "workers_lost", "connections")
"""The last one is a level, not a count: open connections to PostgreSQL."""

BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0,
)  # fmt: skip
"""Upper bounds of the durations, in seconds; longer ones fall above the last."""

STATEMENT_BUCKETS: Final = (
    0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
)  # fmt: skip
"""The same for statements of SQL."""

OTHER: Final = "other"
"""Counts for events that the worker did not know when it started."""

_COUNTS = len(BUCKETS) + 1
_OUTCOME = {name: place * (_COUNTS + 1) for place, name in enumerate(ATTEMPT_OUTCOMES)}
_ATTEMPTS = len(ATTEMPT_OUTCOMES) * (_COUNTS + 1)
_END = {name: _ATTEMPTS + place for place, name in enumerate(ENDS)}
_ROW = _ATTEMPTS + len(ENDS)
_COUNTER = {name: place for place, name in enumerate(COUNTERS)}
_STATEMENT_COUNTS = len(STATEMENT_BUCKETS) + 1


@dataclass(frozen=True, slots=True)
class Durations:
    """Attempts of one event with one outcome: how many fell into each bucket (the last: above all), and their sum."""

    event: str
    outcome: str
    counts: Sequence[int]
    seconds: float


@dataclass(frozen=True, slots=True)
class StatementDurations:
    """How often a statement of SQL took how long, as in Durations."""

    statement: str
    counts: Sequence[int]
    seconds: float


class Counters:
    """Made by the main process before it forks. A process writes its slot; the main process reads all of them."""

    def __init__(self, events: Iterable[str], processes: int, statements: Iterable[str] = ()) -> None:
        self._events = list(dict.fromkeys([OTHER, *events]))
        self._row = {event: len(COUNTERS) + place * _ROW for place, event in enumerate(self._events)}
        self._slots = processes + 1  # the first one is the main process's
        begin = len(COUNTERS) + len(self._events) * _ROW
        self._statement = {name: begin + place * (_STATEMENT_COUNTS + 1) for place, name in enumerate(statements)}
        self._slot_length = begin + len(self._statement) * (_STATEMENT_COUNTS + 1)
        # Pages that nobody writes to take no memory.
        self._numbers = memoryview(mmap.mmap(-1, self._slots * self._slot_length * 8)).cast("d")
        self._lock = threading.Lock()  # for the threads of the main process: only those share a slot

    def attempt(self, event: str, outcome: str, seconds: float) -> None:
        """Count one attempt."""
        at = self._row.get(event, len(COUNTERS)) + _OUTCOME[outcome]
        self._add((at + bisect_left(BUCKETS, seconds), 1.0), (at + _COUNTS, seconds))

    def statement(self, name: str, seconds: float) -> None:
        """Count a statement of SQL that has run; one that was not known at the start is not counted."""
        if (at := self._statement.get(name)) is not None:
            self._add((at + bisect_left(STATEMENT_BUCKETS, seconds), 1.0), (at + _STATEMENT_COUNTS, seconds))

    def ended(self, event: str, state: str) -> None:
        """Count a run that was closed."""
        self._add((self._row.get(event, len(COUNTERS)) + _END[state], 1.0))

    def count(self, counter: str, by: float = 1.0) -> None:
        self._add((_COUNTER[counter], by))

    def level(self, counter: str, value: float) -> None:
        """Note how high something stands in this process."""
        self._numbers[self._begin() + _COUNTER[counter]] = value

    def _add(self, *additions: tuple[int, float]) -> None:
        begin = self._begin()
        if begin:
            for at, amount in additions:
                self._numbers[begin + at] += amount
        else:
            with self._lock:
                for at, amount in additions:
                    self._numbers[at] += amount

    def _begin(self) -> int:
        """Where this process writes."""
        index = getattr(current_process(), "index", None)  # the place in the pool, which a successor takes over
        if not isinstance(index, int):
            return 0
        # More processes than were planned for, by `pool_grow`: two share a slot and may lose a count.
        return (1 + index % (self._slots - 1)) * self._slot_length

    def durations(self) -> Iterator[Durations]:
        """Of every event and outcome that has had an attempt."""
        for event in self._events:
            for outcome in ATTEMPT_OUTCOMES:
                at = self._row[event] + _OUTCOME[outcome]
                counts = [int(self._sum(at + place)) for place in range(_COUNTS)]
                if any(counts):
                    yield Durations(event, outcome, counts, self._sum(at + _COUNTS))

    def statement_durations(self) -> Iterator[StatementDurations]:
        """Of every statement that has run."""
        for name, at in self._statement.items():
            if seconds := self._sum(at + _STATEMENT_COUNTS):
                counts = [int(self._sum(at + place)) for place in range(_STATEMENT_COUNTS)]
                yield StatementDurations(name, counts, seconds)

    def ends(self) -> Iterator[tuple[str, str, int]]:
        """Event, state and number of the runs that were closed."""
        for event in self._events:
            for state in ENDS:
                if number := int(self._sum(self._row[event] + _END[state])):
                    yield event, state, number

    def total(self, counter: str) -> float:
        return self._sum(_COUNTER[counter])

    def _sum(self, at: int) -> float:
        return sum(self._numbers[slot * self._slot_length + at] for slot in range(self._slots))


_counters: Counters | None = None


def share(events: Iterable[str], processes: int, statements: Iterable[str] = ()) -> Counters:
    """Begin to count; called by a worker's main process before the first fork."""
    global _counters  # noqa: PLW0603 - one worker a process
    _counters = Counters(events, max(processes, 1), statements)
    return _counters


def forget() -> None:
    """Count nothing from now on."""
    global _counters  # noqa: PLW0603 - one worker a process
    _counters = None


def shared() -> Counters | None:
    """The counters of the worker that this process belongs to; None where nobody asked for any."""
    return _counters
