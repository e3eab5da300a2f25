"""The leader's passes: a thread that admits runs while lanes wait, and publishes them.

A leader that dies between the two leaves runs that were dispatched and are in no message; the dispatcher finds them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import psycopg
import structlog

from cgk_tasks.admission import guard_decisions
from cgk_tasks.admission.passes import Passes
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.broker.packets import run_times
from cgk_tasks.broker.publisher import get_patient_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.flow.lanes import publish_admitted
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.sql.postgres import autocommit, glance, statements
from cgk_tasks.worker.glance import Found
from cgk_tasks.worker.missing_tables import MissingTables

SQL = statements("admission")
log = structlog.get_logger("cgk_tasks.admission")

_CHARGE_SECONDS = 1.0
_SWEEP_SECONDS = 1.0
_SWEEPS_APART = 10
"""Times that a sweep takes: on a machine that is busy it leaves the passes room."""

_PRUNE_SECONDS = 3600.0
_IDLE_SECONDS = 0.1
"""How often a leader looks whether a lane was told of something, where a pass could start nothing a moment ago."""
_NOTHING_WAITS_SECONDS = 0.25
"""The same while no lane waits but at full gates, or half of the window if that is less. Who wakes an empty lane makes
a pass for it, and a crowded queue has a window of work.
"""
_QUIET_SECONDS = 5.0
"""How often this thread looks up while the leader's own looks find nothing for it: they tell it when they do, unless
the supervisor is busy with something else.
"""
_TURN_SECONDS = 30.0
"""How often it then makes a turn all the same, for what those looks do not see, as lanes that no process knows."""
_LOOK_IS_OLD_SECONDS = 2.5
_FULL_SECONDS = 1.0
"""How often it looks at full gates, if nothing else waits and no place has become free for long."""
_OF_THE_WAIT = 0.1
"""Lanes at full gates may wait for hours: who has waited for long waits so much longer, and no more."""


class Admission(threading.Thread):
    """Makes passes as long as this worker leads. Survives anything that PostgreSQL or the broker does.

    found: what the supervisor's last look found; after one that found something it calls `look`.
    """

    def __init__(
        self, leads: Callable[[], bool], tables: MissingTables, found: Callable[[], Found | None] = lambda: None
    ) -> None:
        super().__init__(name="cgk-admission", daemon=True)
        self._leads = leads
        self._found = found
        self._tables = tables
        self._passes = Passes(run_times().mean_seconds)
        self._interval = get_settings().admit_interval_seconds
        window = get_settings().window_seconds
        self._nothing_waits_seconds = max(_IDLE_SECONDS, min(_NOTHING_WAITS_SECONDS, window / 2))
        self._admitted_at = self._look_at = 0.0
        self._stopping = threading.Event()
        self._told = threading.Event()
        self._charge_at = self._sweep_at = self._prune_at = 0.0
        self._has_guards = False
        self._unavailable = RecurringWarning(log, "admission_unavailable", "admission_available")

    def run(self) -> None:
        turn_at = 0.0
        while not self._stopping.is_set():
            self._told.clear()
            is_quiet = self._is_quiet()
            pause = _IDLE_SECONDS
            try:
                if self._leads() and not (is_quiet and time.monotonic() < turn_at) and SWITCH.current().is_on:
                    pause = self.turn()
                    turn_at = time.monotonic() + _TURN_SECONDS
                self._unavailable.is_over()
            except (psycopg.Error, CgkTasksError) as exc:
                if not self._tables.explains(exc):
                    self._unavailable.warn(reason=str(exc).strip())
            except Exception:
                log.exception("admission_failed")
            if is_quiet:
                self._told.wait(_QUIET_SECONDS)
            else:
                self._stopping.wait(pause)

    def _is_quiet(self) -> bool:
        """Whether nothing waits for this thread, by a look that is not old."""
        found = self._found()
        if found is None:
            return not self._leads()
        return not found.needs_passes and time.monotonic() - found.at < _LOOK_IS_OLD_SECONDS

    def look(self) -> None:
        """Something may wait, or this worker leads now."""
        self._told.set()

    def stop(self) -> None:
        self._stopping.set()
        self._told.set()
        self.join(timeout=10)

    def turn(self) -> float:
        """Make a pass if lanes wait. Returns how long to wait before the next one."""
        with autocommit() as connection:
            some_wait, gates_are_full = (value == "t" for value in glance(connection, SQL["lanes_wait"]))
        self._now_and_then(time.monotonic())
        if self._has_guards:
            guard_decisions.decide()
        if get_patient_publisher().rests:
            return _IDLE_SECONDS
        if not some_wait and (not gates_are_full or time.monotonic() < self._look_at):
            return self._pause(self._nothing_waits_seconds)
        admitted = self._passes.make()
        if admitted.packets:
            publish_admitted(admitted.packets, get_patient_publisher())
            self._admitted_at = time.monotonic()
            return 0.0 if admitted.is_limited else self._interval
        self._look_at = time.monotonic() + self._pause(_FULL_SECONDS)
        return self._pause()

    def _now_and_then(self, now: float) -> None:
        if now >= self._charge_at:
            if SWITCH.current().is_fair:
                self._passes.charge_overtime()
            self._has_guards = SWITCH.current().has_guards and guard_decisions.are_declared()
            self._charge_at = now + _CHARGE_SECONDS
        if now >= self._sweep_at:
            self._passes.sweep()
            took = time.monotonic() - now
            self._sweep_at = now + max(_SWEEP_SECONDS, _SWEEPS_APART * took)
        if now >= self._prune_at and not self._passes.prune():
            self._prune_at = now + _PRUNE_SECONDS

    def _pause(self, most: float = _IDLE_SECONDS) -> float:
        """Nothing could start. What comes next, or ends, may be as far away as what came last."""
        waited = time.monotonic() - self._admitted_at
        return max(self._interval, min(most, _OF_THE_WAIT * waited))
