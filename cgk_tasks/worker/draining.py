"""A worker that is drained: it takes no more runs, finishes what it has, and goes on as a process.

What is wanted is a column of the worker's row, which its heartbeat reads: so it counts within a heartbeat, needs no
broker, and no worker misses it. Whoever consumes messages or looks for runs stops that, and the children refuse what
they have been given and not begun.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime

import structlog

from cgk_tasks.sql.postgres import Connection, Row, execute, statements
from cgk_tasks.worker import process_state
from cgk_tasks.worker.notes import Notes
from cgk_tasks.worker.processes import memory_of

SQL = statements("dispatch")
log = structlog.get_logger("cgk_tasks.worker")

_NOTED = "processes, and how far it is drained"
_MEMORY_STEP = 1 << 20
"""Memory is noted in whole MiB: it changes all the time, and each change is a write."""


class Draining:
    """Whether this worker is to be drained, and how far it is."""

    def __init__(self, worker_id: str, pool_size: Callable[[], int], on_change: Callable[[], object]) -> None:
        self._id = worker_id
        self._on_change = on_change
        self._pool_size = pool_size
        self._wanted_at: datetime | None = None
        self.has_stopped = False
        """Whether the worker takes no messages any more and looks for no runs; set by what does that."""

    @property
    def is_wanted(self) -> bool:
        return self._wanted_at is not None

    def heard(self, connection: Connection, told: Row, notes: Notes, *, is_back: bool) -> None:
        """A heartbeat got through: obey, and note how far that is. is_back: the worker had been given up meanwhile."""
        if not told["can_drain"]:
            return
        wanted_at = told["drain_wanted_at"]
        if wanted_at is None and is_back and self._wanted_at is not None:
            wanted_at = self._wanted_at
            execute(connection, SQL["drain_again"], {"id": self._id, "wanted_at": wanted_at})
        self._want(wanted_at)
        state = process_state.shared()
        drains = self.is_wanted and self.has_stopped
        values = {
            "id": self._id, "pool_size": self._pool_size(), "memory": _memory(state), "drains": drains,
            "is_drained": drains and not state.busy_pids(),
        }  # fmt: skip
        if self.is_wanted:
            notes.forget(_NOTED)  # whoever wants it may take that back and want it again between two heartbeats
        notes.say(_NOTED, values, lambda: execute(connection, SQL["note_worker"], values))

    def _want(self, wanted_at: datetime | None) -> None:
        was_wanted, self._wanted_at = self.is_wanted, wanted_at
        if self.is_wanted != was_wanted:
            process_state.shared().drain(is_drained=self.is_wanted)
            log.warning("worker_drains" if self.is_wanted else "worker_takes_runs_again")
            self._on_change()


def _memory(state: process_state.ProcessState) -> str:
    pids = [os.getpid(), *state.children()]
    found = {pid: memory for pid in pids if (memory := memory_of(pid)) is not None}
    return json.dumps({str(pid): memory // _MEMORY_STEP * _MEMORY_STEP for pid, memory in found.items()})
