"""Reclaiming runs whose process died: pending again, or failed as poison after too many deaths."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.flow.accept import publish, unit_of_work
from cgk_tasks.runs import store
from cgk_tasks.runs.models import State
from cgk_tasks.sql.postgres import Connection, Row, autocommit, fetch, statements, transaction
from cgk_tasks.worker import counters
from cgk_tasks.worker.dispatcher import RunClosed, closed_without_worker

SQL, TRANSITIONS = statements("dispatch"), statements("transitions")
log = structlog.get_logger("cgk_tasks.recovery")

POISON_PILL = "POISON_PILL"

lost_workers: deque[str] = deque(maxlen=1000)
"""Names of the workers that this process found silent and whose runs it reclaimed. Whoever reports them removes them."""


def reclaim(
    worker_id: str,
    ids: Sequence[str] | None,
    *,
    reason: str,
    on_closed: RunClosed | None = None,
    counts_as_death: bool = True,
) -> int:
    """Take the running runs of a worker (all, or those in `ids`) away from it. Returns how many there were.

    They wait again and the dispatcher dispatches them, one to a message. A cancelled one is closed; one that killed
    its process `max_deaths` times is failed as a poison pill.
    """
    values = {
        "worker_id": worker_id,
        "ids": None if ids is None else list(ids),
        "deaths": int(counts_as_death),
        "reason": reason,
    }
    with transaction() as connection, unit_of_work(connection) as unit:
        rows = fetch(connection, TRANSITIONS["reclaim"], values)
        cancelled = [row["id"] for row in rows if row["cancel_requested"]]
        poison = [
            row["id"] for row in rows if row["deaths"] >= get_settings().max_deaths and not row["cancel_requested"]
        ]
        _close(connection, cancelled, "cancelled", None, on_closed)
        _close(connection, poison, "failed", POISON_PILL, on_closed)
    publish(unit.accepted)
    if rows:
        if counts_as_death and (counted := counters.shared()):
            counted.count("deaths", len(rows))
        log.warning("runs_reclaimed", runs=len(rows), poison=len(poison), worker=worker_id, reason=reason)
    return len(rows)


def _close(
    connection: Connection, ids: Sequence[str], state: State, error_code: str | None, on_closed: RunClosed | None
) -> None:
    if ids:
        rows = store.close_waiting(connection, ids, state, error_code)
        closed_without_worker(connection, rows, on_closed)


def reclaim_from_dead_workers(on_closed: RunClosed | None = None) -> int:
    """Reclaim the runs of workers without a heartbeat. Only a worker whose own heartbeats got through all that time may."""
    timeout = get_settings().worker_timeout_seconds
    with autocommit() as connection:
        dead: list[Row] = fetch(connection, SQL["dead_workers"], {"timeout": timeout})
    reclaimed = 0
    for row in dead:
        reclaimed += reclaim(row["id"], None, reason=f"its worker was silent for {timeout:g} s", on_closed=on_closed)
        with autocommit() as connection:
            gone = fetch(connection, SQL["deregister_silent_worker"], {"id": row["id"], "timeout": timeout})
        for worker in gone:
            _note_lost(worker["name"])
    return reclaimed


def _note_lost(name: str) -> None:
    log.error("worker_lost", worker=name)
    lost_workers.append(name)
    if counted := counters.shared():
        counted.count("workers_lost")
