"""What a worker says on record with each heartbeat, and is told: one statement, where nothing has changed.

Each statement of a thread that has slept costs half a millisecond of processor time. So what others learn of the worker
beside its life is said when it changes, and now and then.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import structlog

from cgk_tasks.admission.limits import LANES
from cgk_tasks.admission.rules import guard_rules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.jobs.guards import all_guards
from cgk_tasks.runs.job_events import note_job_events, note_limits, note_rules
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, fetch, short_transaction, statements
from cgk_tasks.worker.draining import Draining
from cgk_tasks.worker.notes import Notes
from cgk_tasks.worker.pool import Pool
from cgk_tasks.worker.processes import pid_namespace, started_at
from cgk_tasks.worker.waiting_for_workers import WaitingForWorkers
from cgk_tasks.workflows.awaiting import awaited_fields, note_awaited_events

SQL, TRANSITIONS, CLOCK = statements("dispatch"), statements("transitions"), statements("doctor")
ADMISSION = statements("admission")
log: Final = structlog.get_logger("cgk_tasks.supervisor")


class Presence:
    """A worker's row. on_return: called when it was gone: PostgreSQL has crashed, or others gave the worker up."""

    def __init__(self, worker_id: str, pool: Pool, draining: Draining, on_return: Callable[[], object]) -> None:
        self._id, self._pool = worker_id, pool
        self._draining, self._on_return = draining, on_return
        self._was_present = False
        self._clock_offset: float | None = None
        self._notes = Notes()
        self._waiting = WaitingForWorkers()
        self.has_neighbours = True
        """Whether there are other workers on this machine, as of the last heartbeat."""

    def beat(self) -> None:
        """Raises psycopg.Error, CgkTasksError: then it counts as not heard."""
        try:
            with autocommit() as connection:
                told = self._say(connection) if self._was_present else None
            if told is None:
                told = self._appear()
            self._notes.say("awaited events", awaited_fields(), note_awaited_events)
            if SWITCH.current().has_guards and (guards := all_guards()):
                with autocommit() as connection:
                    LANES.current().note(connection, guard_rules(guards))
        except BaseException:
            self._notes.forget()  # a transaction that was rolled back has said nothing
            raise
        self.has_neighbours = told["has_neighbours"]
        self._waiting.heard_of(told["waited_for"])

    def _appear(self) -> Row:
        """The first heartbeat, and the first after PostgreSQL crashed or others gave this worker up. Nobody sees it
        before the claims are on record again.
        """
        with short_transaction() as connection:
            is_new = bool(fetch(connection, SQL["register_worker"], {"id": self._id}))
            is_back = is_new and self._was_present
            if is_back:
                self._assert_claims(connection)
                self._on_return()
            self._notes.forget()
            told = self._say(connection, is_back=is_back)
        assert told is not None
        self._was_present = True
        return told

    def _say(self, connection: Connection, *, is_back: bool = False) -> Row | None:
        """Returns what it was told. None if the worker is not registered: then nothing was said."""
        executes = sorted(self._pool.executes())
        values = self._row() | {"executes": executes if self._notes.is_due("executes", executes) else None}
        asked_at = time.time()
        found = fetch(connection, SQL["heartbeat"], values)
        if not found:
            return None
        told = found[0]
        self._clock_offset = (asked_at + time.time()) / 2 - told["now"].timestamp()
        if told["is_first"]:
            self._notes.forget()
        if values["executes"] is not None:
            self._notes.note("executes", executes)
        self._note_jobs(connection)
        self._draining.heard(connection, told, self._notes, is_back=is_back)
        if SWITCH.current().has_lanes:
            # What a drained worker could execute is no room for runs.
            processes = 0 if self._draining.is_wanted else self._pool.processes()
            said = {"id": self._id, "processes": processes}
            self._notes.say("processes", said, lambda: execute(connection, ADMISSION["note_processes"], said))
        return told

    def _row(self) -> dict[str, Any]:
        if self._clock_offset is None:
            self._clock_offset = _clock_offset()
        return {
            "id": self._id,
            "name": self._pool.name,
            "pid": os.getpid(),
            "queues": sorted(self._pool.queues()),
            "pid_namespace": pid_namespace(),
            "process_started": started_at(os.getpid()),
            "clock_offset": self._clock_offset,
        }

    def _note_jobs(self, connection: Connection) -> None:
        """Which events this worker has jobs for, and what these want."""
        events, switch = dict(self._pool.events()), SWITCH.current()
        self._notes.say("events", events, lambda: note_job_events(connection, events))
        if switch.has_send_rules:
            self._notes.say("rules", events, lambda: note_rules(connection, events))
        elif switch.has_limits:
            self._notes.say("limits", events, lambda: note_limits(connection, events))

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


def _clock_offset() -> float:
    """How far this machine's clock is ahead of PostgreSQL's, measured by itself."""
    with autocommit() as connection:
        asked_at = time.time()
        now: datetime = fetch(connection, CLOCK["now"])[0]["now"]
        return (asked_at + time.time()) / 2 - now.timestamp()
