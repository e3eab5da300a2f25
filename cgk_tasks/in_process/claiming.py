"""A worker's consumer where there is no broker: it looks in PostgreSQL for runs that nobody has claimed.

It takes as many as it has free threads. What a pass has admitted into one slot stays one packet, whose runs are
executed one after another; other runs are packets of one. They are not locked: of two workers that see the same packet
one claims it, in one statement, and the other one looks again. While something is done it looks after each end; else it
waits until something is dispatched in this process, and a fifth of a second at most.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

import psycopg
import structlog
from celery import Celery
from celery.worker import state

from cgk_tasks.broker.envelope import packet_message
from cgk_tasks.broker.without import WAKE
from cgk_tasks.celery_tasks.adapter import UNHANDLED
from cgk_tasks.celery_tasks.supervisors import supervisor_of
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements
from cgk_tasks.worker.pipeline import NotClaimedError
from cgk_tasks.worker.supervisor import Supervisor

SQL = statements("dispatch")
log = structlog.get_logger("cgk_tasks.worker")

_LOOK_SECONDS: Final = 0.2
_TRY_AGAIN_SECONDS: Final = 1.0


class ClaimingConsumer:
    """In the place of Celery's consumer, whose steps are about a connection to a broker."""

    def __init__(self, _on_task_request: Any, *, app: Celery[Any], pool: Any, hostname: str, **_options: Any) -> None:
        self._app, self._pool, self._hostname = app, pool, hostname
        self._busy: set[str] = set()
        self._packets = 0
        self._lock = threading.Lock()
        self._rest_until = 0.0
        self._unavailable = RecurringWarning(log, "runs_not_looked_for", "runs_looked_for_again")

    def start(self) -> None:
        """Until the worker stops, which is raised here."""
        shutdown: Any = state
        while True:
            shutdown.maybe_shutdown()
            wake = WAKE.current()
            wake.clear()
            if not self._begin(self._next()):
                wake.wait(_LOOK_SECONDS)

    def stop(self) -> None: ...
    def close(self) -> None: ...
    def shutdown(self) -> None: ...

    def _next(self) -> list[list[Dispatch]]:
        """Packets for the threads that are free; none while this worker should leave them to others."""
        supervisor = supervisor_of(self._app)
        if supervisor is not None:
            supervisor.draining.has_stopped = supervisor.draining.is_wanted
        if self._is_to_rest(supervisor):
            return []
        with self._lock:
            busy, free = list(self._busy), self._pool.limit - self._packets
        if free <= 0:
            return []
        values = {"queues": list(self._app.amqp.queues.consume_from), "busy": busy, "limit": free}
        try:
            with autocommit() as connection:
                found = fetch(connection, SQL["next_dispatched"], values)
        except (psycopg.Error, CgkTasksError) as exc:
            self._unavailable.warn(reason=str(exc).strip())
            self._rest()
            return []
        self._unavailable.is_over()
        return packets_of(found)

    def _is_to_rest(self, supervisor: Supervisor | None) -> bool:
        is_away = supervisor is not None and (supervisor.draining.is_wanted or supervisor.is_out_of_touch)
        return is_away or time.monotonic() < self._rest_until

    def _begin(self, packets: list[list[Dispatch]]) -> bool:
        """Whether there are any."""
        for packet in packets:
            with self._lock:
                self._packets += 1
                self._busy.update(run.id for run in packet)
            self._pool.apply_async(self._execute, (packet,), callback=lambda _result: None)
        return bool(packets)

    def _execute(self, packet: list[Dispatch]) -> None:
        """In a thread of the pool: as if the packet's message had come."""
        ids, event = [run.id for run in packet], packet[0].event
        try:
            task: Any = self._app.tasks.get(event) or self._app.tasks[UNHANDLED]
            request = {**packet_message(packet).headers, "hostname": self._hostname}
            info = task.__trace__(request["id"], [ids], {}, request).info
            if info is not None and isinstance(info.retval, NotClaimedError | psycopg.DataError):
                self._unavailable.warn(reason=str(info.retval))
                self._rest()  # else it would be found again at once
        finally:
            with self._lock:
                self._packets -= 1
                self._busy.difference_update(ids)
            WAKE.current().set()

    def _rest(self) -> None:
        self._rest_until = time.monotonic() + _TRY_AGAIN_SECONDS


def packets_of(rows: Sequence[Row]) -> list[list[Dispatch]]:
    """The packets of what was found, in its order: a slot is one, and each run without a slot."""
    found: dict[object, list[Dispatch]] = {}
    for row in rows:
        key = row["id"] if row["slot"] is None else (row["slot"], row["handed_over_at"], row["event"])
        found.setdefault(key, []).append(Dispatch.of(row))
    return list(found.values())
