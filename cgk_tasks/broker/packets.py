"""How many runs travel in one message: many when they are short and wait in numbers, else one.

A claim and a finish cost a statement each, whatever they are about, so short runs share them. A packet should take
half of its time budget: what it has not begun by then goes back, which costs a statement too.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterable, Iterator, Sequence

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.logger import get_logger
from cgk_tasks.runs.models import Dispatch, NewRun
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, execute, fetch, statements

SQL = statements("dispatch")
log = get_logger("cgk_tasks.broker")

_RUN_ID = re.compile("[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")

MAX_LENGTH = 100
_PACKETS_AT_LEAST = 16
"""A backlog is cut into no fewer packets than this, so that all the processes have something to do."""

_TRUST_SECONDS = 1.0
_LOOK_AGAIN_SECONDS = 0.1
"""How long it is trusted that nobody has measured an event: as long as that is so, its runs travel nearly alone."""
_NOTE_SECONDS = 1.0


class RunTimes:
    """The mean run time of each event: measured by the workers, read by whoever dispatches."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, float] = {}
        self._looked_at = -_TRUST_SECONDS
        self._measured: dict[str, tuple[int, float]] = {}
        self._warm: set[str] = set()
        self._noted: set[str] = set()
        self._note_at = time.monotonic() + _NOTE_SECONDS

    def mean_seconds(self, event: str) -> float | None:
        """The event's mean run time as of a second ago; None if no run was measured yet."""
        now = time.monotonic()
        trusted = _TRUST_SECONDS if event in self._known else _LOOK_AGAIN_SECONDS
        if now >= self._looked_at + trusted:
            self._looked_at = now
            try:
                with autocommit() as connection:
                    self._known = {row["event"]: row["mean_seconds"] for row in fetch(connection, SQL["run_times"])}
            except psycopg.Error:
                return None
        return self._known.get(event)

    def measured(self, event: str, runs: int, seconds: float) -> None:
        """Count `runs` that took `seconds` together. Not the first ones of a process: they wait for imports and
        connections.
        """
        with self._lock:
            if event not in self._warm:
                self._warm.add(event)
                return
            known, total = self._measured.get(event, (0, 0.0))
            self._measured[event] = known + runs, total + seconds
            if event not in self._noted:
                self._noted.add(event)
                self._note_at = 0.0

    def note_now_and_then(self) -> None:
        """Write what was measured, with one statement: at once of an event that is new to this process, else once a
        second at most. Losing it harms nobody.
        """
        now = time.monotonic()
        if now < self._note_at:
            return
        self._note_at = now + _NOTE_SECONDS
        with self._lock:
            measured, self._measured = self._measured, {}
        if not measured:
            return
        # In one order everywhere, so that two processes cannot lock each other out.
        events = sorted(measured)
        values = {"event": events, "mean_seconds": [measured[event][1] / measured[event][0] for event in events]}
        try:
            with autocommit() as connection:
                execute(connection, SQL["note_run_times"], values)
        except psycopg.Error:
            return


RUN_TIMES = Part(RunTimes)


def run_times() -> RunTimes:
    """Those that the current runtime knows."""
    return RUN_TIMES.current()


def packet_length(event: str, waiting: int) -> int:
    """How many of `waiting` runs of an event go into one message."""
    if waiting < 2 * _PACKETS_AT_LEAST:
        return 1
    mean = run_times().mean_seconds(event)
    if mean is None:
        return 1
    in_budget = int(get_settings().packet_budget_seconds / 2 / max(mean, 1e-6))
    return max(1, min(MAX_LENGTH, in_budget, waiting // _PACKETS_AT_LEAST))


def run_ids(listed: Sequence[object]) -> list[str]:
    """The ids of a packet, without what cannot be the id of a run: that would fail the claim of all of them."""
    ids = [one for one in listed if isinstance(one, str) and _RUN_ID.fullmatch(one)]
    if len(ids) < len(listed):
        log.warning("packet_with_foreign_ids", left_out=len(listed) - len(ids), runs=len(ids))
    return ids


def packets(runs: Iterable[Dispatch | NewRun]) -> Iterator[Sequence[Dispatch | NewRun]]:
    """Cut runs into packets of one event, queue and priority. A run whose process died before travels alone."""
    kinds: dict[tuple[str, str, int, bool], list[Dispatch | NewRun]] = {}
    for run in runs:
        kinds.setdefault((run.event, run.queue, run.priority, run.alone), []).append(run)
    for (event, _queue, _priority, alone), members in kinds.items():
        length = 1 if alone else packet_length(event, len(members))
        yield from (members[at : at + length] for at in range(0, len(members), length))
