"""The supervisor: a thread in every worker's main process that watches over its runs.

It reclaims runs of children that died, interrupts cancelled runs, and dispatches while it leads. Its heartbeat is in
threads of its own: a long turn here must not look like a dead worker.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

import psycopg
import structlog

from cgk_tasks.broker.hints import Hints, longest_pause, new_hints
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, StoreError
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.sql.duty_cycle import DutyCycle
from cgk_tasks.sql.locks import is_locked
from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch, statements
from cgk_tasks.worker import recovery
from cgk_tasks.worker.admission import Admission
from cgk_tasks.worker.dispatcher import Dispatcher
from cgk_tasks.worker.draining import Draining
from cgk_tasks.worker.heartbeat import Heartbeat
from cgk_tasks.worker.missing_tables import MissingTables
from cgk_tasks.worker.pace import LEAST_PAUSE, Pace, pause
from cgk_tasks.worker.pool import Pool
from cgk_tasks.worker.presence import Presence
from cgk_tasks.worker.process_state import AtWork, OverLimit
from cgk_tasks.worker.processes import is_alive, paused
from cgk_tasks.worker.skip_locked import SkipLocked

SQL = statements("dispatch")
log = structlog.get_logger("cgk_tasks.supervisor")

_FIRST_TURN_SECONDS = 0.3
"""At most so long after the start. Until its first message is with the pool a worker connects to its broker and reads,
for which it would share Python's lock with this thread; the heartbeat begins at once.
"""
_LOOK_SECONDS = 0.5
_FORGOTTEN_LOOKS = 4
_LOOK_FOR_ALL_SECONDS = 5.0
"""How often a worker that does nothing looks which runs are on record as its own, all the same."""
_LOOK_AT_NEIGHBOURS_SECONDS = 2.0
_FREE_SECONDS = 2.0
_LOOK_FOR_THE_DEAD = 1 / 15
"""Part of a worker's timeout after which the leader looks again whose time is over."""


class Supervisor(threading.Thread):
    """Start with `start()`, end with `stop()`. Survives anything that PostgreSQL or the broker does."""

    def __init__(self, worker_id: str, pool: Pool) -> None:
        super().__init__(name="cgk-supervisor", daemon=True)
        self._id = worker_id
        self._pool = pool
        self._settings = get_settings()
        self._dispatcher = Dispatcher(worker_id, pool.on_closed)
        self._stopping, self._woken, self._begins = threading.Event(), threading.Event(), threading.Event()
        self._pace = Pace(self._settings.dispatch_interval_seconds, longest_pause())
        self._hints: Hints | None = None
        self._timed_out: deque[OverLimit] = deque()
        self._look_at = self._look_for_all_at = 0.0
        self._at_work = AtWork(0, busy=False)
        self._has_held = True
        self._looks, self._looks_for_the_dead = DutyCycle(), DutyCycle()
        self._look_at_neighbours_at = self._look_for_the_dead_at = 0.0
        self._tables = MissingTables()
        self.on_consumption_changed: Callable[[], object] | None = None
        """Called when `is_out_of_touch` or `draining.is_wanted` has changed, in a thread that must not wait."""
        self._admission = Admission(lambda: self._dispatcher.leads, self._tables, lambda: self._dispatcher.found)
        self.draining = Draining(worker_id, pool.processes, self._consumption_changed)
        self._presence = Presence(worker_id, pool, self.draining, self._has_returned)
        self._heartbeat = Heartbeat(
            self._presence.beat, pool.fence, pool.lease, self._tables, self._consumption_changed
        )
        self._not_active: dict[str, int] = {}
        self._interrupted: set[str] = set()
        self._unavailable = RecurringWarning(log, "supervisor_unavailable", "supervisor_available")
        self._skip_locked = SkipLocked(log)

    @property
    def leads(self) -> bool:
        """Whether this worker is the dispatcher now."""
        return self._dispatcher.leads

    @property
    def is_out_of_touch(self) -> bool:
        """Whether this worker should leave messages to others: its heartbeats do not get through."""
        return self._heartbeat.is_out_of_touch

    def start(self) -> None:
        super().start()
        self._heartbeat.start()
        self._admission.start()

    def begin(self) -> None:
        """Called for each message that the pool was given: with the first one there is something to watch over."""
        if not self._begins.is_set():
            self._begins.set()

    def run(self) -> None:
        self._begins.wait(_FIRST_TURN_SECONDS)
        while not self._stopping.is_set():
            self._survive(self._turn)
            self._tell_admission()
            turned_at = time.monotonic()
            while not self._sleep(self._until(turned_at)) and time.monotonic() < self._until(turned_at):
                self._survive(self._look)
                self._tell_admission()

    def _until(self, turned_at: float) -> float:
        """When the next turn is, by what is known now."""
        return turned_at + self._pace.seconds_to_turn(time.monotonic(), is_idle=self._is_idle)

    def _look(self) -> None:
        if self.leads:
            self._dispatcher.dispatch_due()

    @property
    def _is_idle(self) -> bool:
        """Whether nothing happens, and whoever sends what cannot wait for a late turn wakes this thread."""
        if self._at_work.busy or self._has_held or self._timed_out:
            return False
        found = self._dispatcher.found
        if not self.leads or found is None:
            return not self.leads
        return found.is_quiet and self._hints is not None and self._hints.are_heard

    def _sleep(self, until: float) -> bool:
        """Until then, or a run is due, or a sender has given a hint. Returns whether the worker stops."""
        to_due = self._dispatcher.seconds_to_due if self.leads else None
        begun = time.monotonic()
        if self._woken.wait(pause(until - begun, to_due)):
            self._stopping.wait(begun + LEAST_PAUSE - time.monotonic())  # many may come at once
            self._woken.clear()  # before the look, which finds what all of them were about
        return self._stopping.is_set()

    def _survive(self, act: Callable[[], object]) -> None:
        try:
            act()
            self._unavailable.is_over()
        except (psycopg.Error, CgkTasksError) as exc:
            if not self._tables.explains(exc):
                self._unavailable.warn(reason=str(exc).strip())
        except Exception:
            log.exception("supervisor_failed")

    def _consumption_changed(self) -> None:
        if self.on_consumption_changed is not None:
            self.on_consumption_changed()

    def _tell_admission(self) -> None:
        found = self._dispatcher.found
        if found is not None and found.needs_passes:
            self._admission.look()

    def stop(self) -> None:
        """End the thread and leave the record: no other worker has to wait for a silence.

        Called when nobody in the worker works on a run any more: what it still holds is given back.
        """
        self._stopping.set()
        self._woken.set()
        self._begins.set()
        self._admission.stop()
        self.join(timeout=10)
        if self._hints is not None:  # its last turn may have begun to hear them
            self._hints.close()
        self._heartbeat.stop(timeout=5)
        try:
            self._give_back()
            self._dispatcher.drop_lease()
            with autocommit() as connection:
                execute(connection, SQL["deregister_worker"], {"id": self._id})
        except psycopg.Error as exc:
            if not self._tables.explains(exc):
                log.warning("worker_not_deregistered", reason=str(exc).strip())

    def _give_back(self) -> None:
        """All that it holds. What a child of it had locked when it was killed is free a moment later."""
        give_up = time.monotonic() + _FREE_SECONDS
        while True:
            recovery.reclaim(self._id, None, reason="its worker stopped", loss="stop", on_closed=self._pool.on_closed)
            with autocommit() as connection:
                held = fetch(connection, SQL["runs_of_worker"], {"id": self._id})
            if not held or time.monotonic() > give_up:
                return  # the leader reclaims the others after the worker's timeout
            time.sleep(LEAST_PAUSE)

    def _turn(self) -> None:
        now = time.monotonic()
        at_work = self._pool.at_work()
        if at_work.busy or self._timed_out:
            self._skip_locked.tried("runs over their hard limits", self._enforce_hard_limits, None)
        if now >= self._look_at and self._looks.is_time:
            self._look_at = now + _LOOK_SECONDS
            if self._may_hold_runs(at_work, now):
                self._look_after_runs()
                self._look_for_all_at = now + _LOOK_FOR_ALL_SECONDS
        if now >= self._look_at_neighbours_at and self._presence.has_neighbours:
            recovery.reclaim_from_gone_neighbours(self._id, self._pool.on_closed)
            self._look_at_neighbours_at = now + _LOOK_AT_NEIGHBOURS_SECONDS
        if self._dispatcher.take_lease():
            if self._hints is None:
                self._hints = new_hints(self._woken.set)
            if now >= self._look_for_the_dead_at and self._heartbeat.may_judge and self._dispatcher.may_miss_workers:
                self._look_for_the_dead(now)
            self._dispatcher.tick()

    def _look_for_the_dead(self, now: float) -> None:
        if self._looks_for_the_dead.is_time:
            self._look_for_the_dead_at = now + self._settings.worker_timeout_seconds * _LOOK_FOR_THE_DEAD
            with self._looks_for_the_dead.measured():
                recovery.reclaim_from_dead_workers(self._pool.on_closed)

    def _enforce_hard_limits(self) -> None:
        """Kill the children whose run is over its hard limit, and record it: a child cannot report its own death.

        What PostgreSQL does not take now, it gets later.
        """
        for run in self._pool.over_limit():
            with paused(run.pid):  # else it could end this run and begin another one between the look and the kill
                if not self._pool.is_over_limit(run):
                    continue
                self._pool.kill([run.pid])
            self._timed_out.append(run)
            log.error("run_over_its_hard_limit", run=run.id, seconds=run.seconds)
        self._record_timed_out()

    def _record_timed_out(self) -> None:
        """One that somebody has locked lets the others pass, and is raised at the end."""
        locked: Exception | None = None
        for _ in range(len(self._timed_out)):
            run = self._timed_out.popleft()
            try:
                self._pool.on_timed_out(run.id, run.seconds)
            except (psycopg.Error, StoreError) as exc:
                self._timed_out.append(run)
                if not is_locked(exc):
                    raise
                locked = exc
        if locked is not None:
            raise locked

    def _has_returned(self) -> None:
        """PostgreSQL has crashed, or others gave this worker up: what is on record as its own may be out of date."""
        self._look_for_all_at = 0.0

    def _may_hold_runs(self, at_work: AtWork, now: float) -> bool:
        """Whether runs may be on record as running here: those of a child that died stay so until somebody looks."""
        has_changed, self._at_work = at_work != self._at_work, at_work
        is_time = now >= self._look_for_all_at and not self._dispatcher.nothing_runs
        return has_changed or at_work.busy or self._has_held or is_time

    def _look_after_runs(self) -> None:
        self._has_held = True  # until a look says otherwise
        with self._looks.measured(), autocommit() as connection:
            held = fetch(connection, SQL["runs_of_worker"], {"id": self._id})
        self._has_held = bool(held)
        timed_out = {run.id for run in self._timed_out}  # their end is to be recorded first
        dead = [row for row in held if not is_alive(row["worker_pid"]) and row["id"] not in timed_out]
        if dead:
            self._reclaim_dead(dead)
        self._pool.looked_after()
        self._reclaim_forgotten([row for row in held if row not in dead and row["id"] not in timed_out])
        self._interrupt_cancelled(held)

    def _reclaim_dead(self, dead: list[Row]) -> None:
        killed = [row["id"] for row in dead if self._pool.has_killed(row["worker_pid"])]
        died = [row["id"] for row in dead if row["id"] not in killed]
        on_closed = self._pool.on_closed
        if died:
            recovery.reclaim(self._id, died, reason="its process died", on_closed=on_closed)
        if killed:
            recovery.reclaim(self._id, killed, reason="its worker ended its process", loss="stop", on_closed=on_closed)

    def _reclaim_forgotten(self, held: list[Row]) -> None:
        """Runs that we hold on record but nobody here works on: PostgreSQL forgot their end, or their claim's
        answer.
        """
        idle = [row["id"] for row in held if not self._pool.is_at_work(row)]
        self._not_active = {run_id: self._not_active.get(run_id, 0) + 1 for run_id in idle}
        forgotten = [run_id for run_id, looks in self._not_active.items() if looks >= _FORGOTTEN_LOOKS]
        if forgotten:
            recovery.reclaim(
                self._id,
                forgotten,
                reason="its end is not on record, and nobody works on it",
                loss="lost end",
                on_closed=self._pool.on_closed,
            )

    def _interrupt_cancelled(self, held: list[Row]) -> None:
        cancelled: dict[int, set[str]] = {}
        for row in held:
            if row["cancel_requested"]:
                cancelled.setdefault(row["worker_pid"], set()).add(row["id"])
        for pid, run_ids in cancelled.items():
            if not run_ids <= self._interrupted:
                self._pool.interrupt(pid, run_ids)
        self._interrupted = set().union(*cancelled.values())
