"""What the runs of this process saw of the guards that they use, told to PostgreSQL once a second at most.

A thread tells it, which starts with the first run that uses a guard. What a process that is killed had not told is
lost: a guard moves a little later then.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import psycopg

from cgk_tasks.admission.gates import gate_key
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.rules import rule_name
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.logger import get_logger
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, execute, statements
from cgk_tasks.uninterrupted import uninterrupted

SQL = statements("guards")
log = get_logger("cgk_tasks.guards")

TELL_SECONDS: Final = 1.0
_OWN_WORD_SECONDS: Final = 3 * TELL_SECONDS
"""For so long a process keeps to what it was told itself. By then it is on record, where it may have been changed."""

Place = tuple[str, str]
"""A gate, by the name of its rule and its key."""

refused_here: Final[dict[Place, float]] = {}
"""Gates where this process was asked to wait, and until when by the clock of `time.monotonic`."""


@dataclass(slots=True)
class _Seen:
    """As a Report. Times are those of `time.monotonic`."""

    successes: int = 0
    others: int = 0
    failures: int = 0
    all_failures: int = 0
    asked: int = 0
    asked_at: float = 0.0
    until: float = 0.0


def place_of(guard: Guard, tenant_id: str) -> Place:
    return rule_name(guard.name, guard), gate_key(guard.per, tenant_id)


def is_refused_here(place: Place) -> bool:
    """Whether this process was asked to wait a moment ago."""
    until = refused_here.get(place)
    if until is None:
        return False
    if until > time.monotonic():
        return True
    refused_here.pop(place, None)
    return False


class GuardReports:
    """Gathers what runs saw, and tells it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[Place, _Seen] = {}
        self._is_new = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._not_told = RecurringWarning(log, "guard_reports_lost", "guard_reports_told")

    @uninterrupted
    def success(self, place: Place) -> None:
        with self._lock:
            seen = self._of(place)
            seen.successes, seen.failures = seen.successes + 1, 0
        self._tell_soon()

    @uninterrupted
    def other(self, place: Place) -> None:
        """A run ended in a way that says nothing of the partner."""
        with self._lock:
            self._of(place).others += 1
        self._tell_soon()

    @uninterrupted
    def failure(self, place: Place) -> None:
        with self._lock:
            seen = self._of(place)
            seen.failures, seen.all_failures = seen.failures + 1, seen.all_failures + 1
        # The runs that follow in this packet are for the next pass to decide about: it may have been the fifth.
        refused_here[place] = max(refused_here.get(place, 0.0), time.monotonic() + TELL_SECONDS / 10)
        self._tell_soon()

    @uninterrupted
    def asked_to_wait(self, place: Place, seconds: float) -> None:
        now = time.monotonic()
        with self._lock:
            seen = self._of(place)
            seen.asked, seen.asked_at, seen.until = seen.asked + 1, now, max(seen.until, now + seconds)
        refused_here[place] = max(refused_here.get(place, 0.0), now + min(seconds, _OWN_WORD_SECONDS))
        self._tell_soon()

    def _of(self, place: Place) -> _Seen:
        return self._seen.setdefault(place, _Seen())

    def _tell_soon(self) -> None:
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    runtime = contextvars.copy_context()
                    self._thread = threading.Thread(
                        target=runtime.run, args=(self._keep_telling,), name="cgk-guards", daemon=True
                    )
                    self._thread.start()
        self._is_new.set()

    def _keep_telling(self) -> None:
        while not self._stopping.is_set():
            self._is_new.wait(TELL_SECONDS if refused_here else None)
            self._is_new.clear()
            self.tell()
            self._stopping.wait(TELL_SECONDS)
            for place in list(refused_here):  # while there are any, each run of this process looks at them
                is_refused_here(place)

    def tell(self) -> None:
        """Tell what was seen since the last time."""
        with self._lock:
            seen, self._seen = self._seen, {}
        if not seen:
            return
        try:
            with autocommit() as connection:
                execute(connection, SQL["report"], _columns(seen, time.monotonic()))
            self._not_told.is_over()
        except (psycopg.Error, ConfigurationError) as exc:
            self._not_told.warn(reason=str(exc).strip())

    def close(self) -> None:
        self._stopping.set()
        self._is_new.set()


def _columns(seen: Mapping[Place, _Seen], now: float) -> dict[str, list[object]]:
    rows = list(seen.values())
    return {
        "rule": [rule for rule, _key in seen],
        "key": [key for _rule, key in seen],
        "successes": [row.successes for row in rows],
        "others": [row.others for row in rows],
        "failures": [row.failures for row in rows],
        "all_failures": [row.all_failures for row in rows],
        "asked": [row.asked for row in rows],
        "ago": [now - row.asked_at if row.asked else 0.0 for row in rows],
        "closed_for": [max(0.0, row.until - now) for row in rows],
    }


GUARD_REPORTS = Part(GuardReports, close=GuardReports.close)
