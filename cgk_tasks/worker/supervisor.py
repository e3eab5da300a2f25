"""The supervisor: a thread in every worker's main process that watches over its runs.

It reclaims runs of children that died, interrupts cancelled runs, and dispatches while it leads. Its heartbeat is in
threads of its own: a long turn here must not look like a dead worker.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

import psycopg
import structlog

from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.rules import guard_rules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, StoreError
from cgk_tasks.jobs.guards import all_guards
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.runs.job_events import Route, note_job_events, note_limits, note_rules
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, fetch, short_transaction, statements
from cgk_tasks.worker import recovery
from cgk_tasks.worker.admission import Admission
from cgk_tasks.worker.dispatcher import Dispatcher, RunClosed
from cgk_tasks.worker.draining import Draining
from cgk_tasks.worker.heartbeat import Heartbeat
from cgk_tasks.worker.lease import Lease
from cgk_tasks.worker.missing_tables import MissingTables
from cgk_tasks.worker.process_state import AtWork, OverLimit
from cgk_tasks.worker.processes import is_alive, paused, pid_namespace, started_at
from cgk_tasks.worker.waiting_for_workers import WaitingForWorkers
from cgk_tasks.workflows.awaiting import note_awaited_events

SQL, TRANSITIONS, CLOCK = statements("dispatch"), statements("transitions"), statements("doctor")
ADMISSION = statements("admission")
log = structlog.get_logger("cgk_tasks.supervisor")

_LOOK_SECONDS = 0.5
_LEAST_PAUSE = 0.08
"""Part of the dispatch interval that passes between two looks for due runs, however close together these are."""
_FORGOTTEN_LOOKS = 4
_LOOK_FOR_ALL_SECONDS = 5.0
"""How often a worker that does nothing looks which runs are on record as its own, all the same."""
_LOOK_AT_NEIGHBOURS_SECONDS = 2.0
_LOOK_FOR_THE_DEAD = 1 / 15
"""Part of a worker's timeout after which the leader looks again whose time is over."""


class Holding(Protocol):
    """A run with the attempt that was claimed, and the process that works on it."""

    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def pid(self) -> int: ...


@dataclass(frozen=True)
class Pool:
    """What the supervisor must know of, and may do to, the worker's pool."""

    name: str
    queues: Callable[[], Collection[str]]
    processes: Callable[[], int]
    """How many runs it executes at once."""
    events: Callable[[], Mapping[str, Route]]
    """The events that the worker has jobs for, and where those want their runs."""
    executes: Callable[[], Collection[str]]
    """What the worker can execute: names as `executed_name` makes them."""
    at_work: Callable[[], AtWork]
    """What its processes do now."""
    is_at_work: Callable[[Row], bool]
    """Whether somebody in the pool works on this run (id, worker_pid, seconds since its claim)."""
    lease: Lease
    """What the processes of the pool may count on, renewed by each heartbeat."""
    held: Callable[[], Sequence[Holding]]
    """The runs that the pool has claimed and not yet recorded the end of."""
    interrupt: Callable[[int, Collection[str]], None]
    """Raise RunCancelledError in these runs, which the child with this pid holds."""
    fence: Callable[[], None]
    """End what runs here at once: kill every child, interrupt the jobs of this process."""
    has_killed: Callable[[int], bool]
    """Whether the worker itself has killed the child that had this pid: that is no death of its runs' making."""
    looked_after: Callable[[], None]
    """Called when the runs of all dead children are reclaimed."""
    over_limit: Callable[[], Collection[OverLimit]]
    """The runs that have been on for longer than their hard time limit; each is named once."""
    is_over_limit: Callable[[OverLimit], bool]
    """Whether one that was named is still on."""
    kill: Callable[[Collection[int]], None]
    """Kill the children with these pids."""
    on_timed_out: Callable[[str, float], None]
    """Record that a run was killed by its hard time limit (seconds)."""
    on_closed: RunClosed


class Supervisor(threading.Thread):
    """Start with `start()`, end with `stop()`. Survives anything that PostgreSQL or the broker does."""

    def __init__(self, worker_id: str, pool: Pool) -> None:
        super().__init__(name="cgk-supervisor", daemon=True)
        self._id = worker_id
        self._pool = pool
        self._settings = get_settings()
        self._dispatcher = Dispatcher(worker_id, pool.on_closed)
        self._stopping = threading.Event()
        self._timed_out: deque[OverLimit] = deque()
        self._look_at = self._look_for_all_at = 0.0
        self._at_work = AtWork(0, busy=False)
        self._has_held = True
        self._look_at_neighbours_at = self._look_for_the_dead_at = 0.0
        self._tables = MissingTables()
        self.on_consumption_changed: Callable[[], object] | None = None
        """Called when `is_out_of_touch` or `draining.is_wanted` has changed, in a thread that must not wait."""
        self._heartbeat = Heartbeat(self._beat, pool.fence, pool.lease, self._tables, self._consumption_changed)
        self._admission = Admission(lambda: self._dispatcher.leads, self._tables, lambda: self._dispatcher.found)
        self.draining = Draining(worker_id, pool.processes, self._consumption_changed)
        self._was_present = False
        self._has_neighbours = True
        self._clock_offset: float | None = None
        self._waiting = WaitingForWorkers()
        self._not_active: dict[str, int] = {}
        self._interrupted: set[str] = set()
        self._unavailable = RecurringWarning(log, "supervisor_unavailable", "supervisor_available")

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

    def run(self) -> None:
        while not self._stopping.is_set():
            self._survive(self._turn)
            self._tell_admission()
            until = time.monotonic() + self._settings.dispatch_interval_seconds
            while not self._stopping.wait(self._pause(until)) and time.monotonic() < until:
                self._survive(self._dispatcher.dispatch_due)

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

    def _pause(self, until: float) -> float:
        to_due = self._dispatcher.seconds_to_due if self.leads else None
        return pause(until - time.monotonic(), to_due, self._settings.dispatch_interval_seconds)

    def stop(self) -> None:
        """End the thread and leave the record: no other worker has to wait for a silence.

        Called when nobody in the worker works on a run any more: what it still holds is given back.
        """
        self._stopping.set()
        self._admission.stop()
        self.join(timeout=10)
        self._heartbeat.stop(timeout=5)
        try:
            recovery.reclaim(self._id, None, reason="its worker stopped", loss="stop", on_closed=self._pool.on_closed)
            self._dispatcher.drop_lease()
            with autocommit() as connection:
                execute(connection, SQL["deregister_worker"], {"id": self._id})
        except psycopg.Error as exc:
            if not self._tables.explains(exc):
                log.warning("worker_not_deregistered", reason=str(exc).strip())

    def _turn(self) -> None:
        now = time.monotonic()
        at_work = self._pool.at_work()
        if at_work.busy or self._timed_out:
            self._enforce_hard_limits()
        if now >= self._look_at:
            self._look_at = now + _LOOK_SECONDS
            if self._may_hold_runs(at_work, now):
                self._look_after_runs()
                self._look_for_all_at = now + _LOOK_FOR_ALL_SECONDS
        if now >= self._look_at_neighbours_at and self._has_neighbours:
            recovery.reclaim_from_gone_neighbours(self._id, self._pool.on_closed)
            self._look_at_neighbours_at = now + _LOOK_AT_NEIGHBOURS_SECONDS
        if self._dispatcher.take_lease():
            if now >= self._look_for_the_dead_at and self._heartbeat.may_judge:
                self._look_for_the_dead_at = now + self._settings.worker_timeout_seconds * _LOOK_FOR_THE_DEAD
                recovery.reclaim_from_dead_workers(self._pool.on_closed)
            self._dispatcher.tick()

    def _beat(self) -> None:
        if self._clock_offset is None:
            self._clock_offset = _clock_offset()
        values = {
            "id": self._id,
            "name": self._pool.name,
            "pid": os.getpid(),
            "queues": sorted(self._pool.queues()),
            "pid_namespace": pid_namespace(),
            "process_started": started_at(os.getpid()),
            "clock_offset": self._clock_offset,
            "executes": sorted(self._pool.executes()),
        }
        switch = SWITCH.current()
        with short_transaction() as connection:
            is_new = bool(fetch(connection, SQL["register_worker"], {"id": self._id}))
            if is_new and self._was_present:
                self._assert_claims(connection)
                self._look_for_all_at = 0.0
            asked_at = time.time()
            told = fetch(connection, SQL["heartbeat"], values)[0]
            self._clock_offset = (asked_at + time.time()) / 2 - told["now"].timestamp()
            note_job_events(connection, self._pool.events())
            if switch.has_send_rules:
                note_rules(connection, self._pool.events())
            elif switch.has_limits:
                note_limits(connection, self._pool.events())
            self.draining.heard(connection, told, is_back=is_new and self._was_present)
            if switch.has_lanes:
                # What a drained worker could execute is no room for runs.
                processes = 0 if self.draining.is_wanted else self._pool.processes()
                execute(connection, ADMISSION["note_processes"], {"id": self._id, "processes": processes})
        note_awaited_events()
        if switch.has_guards and (guards := all_guards()):
            with autocommit() as connection:
                LANES.current().note(connection, guard_rules(guards))
        self._was_present = True
        self._has_neighbours = told["has_neighbours"]
        self._waiting.heard_of(told["waited_for"])

    def _assert_claims(self, connection: Connection) -> None:
        """PostgreSQL crashed: say again what runs here, because it may have forgotten the latest claims."""
        held = self._pool.held()
        values = {
            "worker_id": self._id,
            "ids": [run.id for run in held],
            "attempts": [run.attempt for run in held],
            "pids": [run.pid for run in held],
        }
        forgotten = fetch(connection, TRANSITIONS["assert_claims"], values)
        log.warning("claims_asserted_after_a_crash", held=len(held), forgotten=len(forgotten))

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
        while self._timed_out:
            run = self._timed_out.popleft()
            try:
                self._pool.on_timed_out(run.id, run.seconds)
            except (psycopg.Error, StoreError):
                self._timed_out.appendleft(run)
                raise

    def _may_hold_runs(self, at_work: AtWork, now: float) -> bool:
        """Whether runs may be on record as running here: those of a child that died stay so until somebody looks."""
        has_changed, self._at_work = at_work != self._at_work, at_work
        return has_changed or at_work.busy or self._has_held or now >= self._look_for_all_at

    def _look_after_runs(self) -> None:
        self._has_held = True  # until a look says otherwise
        with autocommit() as connection:
            held = fetch(connection, SQL["runs_of_worker"], {"id": self._id})
        self._has_held = bool(held)
        dead = [row for row in held if not is_alive(row["worker_pid"])]
        if dead:
            self._reclaim_dead(dead)
        self._pool.looked_after()
        self._reclaim_forgotten([row for row in held if row not in dead])
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


def pause(to_turn: float, to_due: float | None, interval: float) -> float:
    """Seconds until the next turn, or until a run is due that this worker is to dispatch: None where there is none."""
    return to_turn if to_due is None else min(to_turn, max(to_due, interval * _LEAST_PAUSE))


def _clock_offset() -> float:
    """How far this machine's clock is ahead of PostgreSQL's, measured by itself."""
    with autocommit() as connection:
        asked_at = time.time()
        now: datetime = fetch(connection, CLOCK["now"])[0]["now"]
        return (asked_at + time.time()) / 2 - now.timestamp()
