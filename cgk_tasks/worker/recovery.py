"""Reclaiming runs that nobody works on any more: pending again, or failed after too many deaths or lost ends."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import structlog
from psycopg import errors as pg_errors

from cgk_tasks.config import get_settings
from cgk_tasks.errors import JobLostError, OutcomeNotRecordedError
from cgk_tasks.flow.accept import unit_of_work
from cgk_tasks.runs import ends, store, undo
from cgk_tasks.runs.models import State
from cgk_tasks.runs.plain_columns import error_fingerprint
from cgk_tasks.runs.sealing import open_error, seal
from cgk_tasks.runs.text import storable_json
from cgk_tasks.sql.locks import LOCK_SECONDS
from cgk_tasks.sql.postgres import Connection, Row, autocommit, fetch, short_transaction, statements
from cgk_tasks.worker import counters, processes
from cgk_tasks.worker.dispatcher import RunClosed, closed_without_worker

SQL, TRANSITIONS = statements("dispatch"), statements("transitions")
log = structlog.get_logger("cgk_tasks.recovery")

POISON_PILL = "POISON_PILL"

_NEIGHBOUR_SILENCE = 1.5
"""Heartbeats."""

lost_workers: deque[str] = deque(maxlen=1000)
"""Names of the workers that this process found silent and whose runs it reclaimed. Whoever reports them removes
them.
"""


Loss = Literal["death", "lost end", "stop"]
"""Why nobody works on a run any more: its process died, its end is not on record, or its worker stopped in order."""

_ENTRIES: dict[Loss, dict[str, Any]] = {
    "death": {"code": "WORKER_DIED", "kind": "death", "type": "WorkerDied"},
    "lost end": {"code": OutcomeNotRecordedError.code, "kind": "lost end", "type": "OutcomeNotRecorded"},
}
"""What the record keeps of it among the run's errors. A stop in order is no error."""

_MOST_LOST_ENDS = 3
"""So often may a run's end be lost in a row. Then it is closed: it would be executed for ever."""


def reclaim(
    worker_id: str,
    ids: Sequence[str] | None,
    *,
    reason: str,
    loss: Loss = "death",
    on_closed: RunClosed | None = None,
) -> int:
    """Take the running runs of a worker (all, or those in `ids`) away from it. Returns how many there were.

    They wait again and the dispatcher dispatches them, one to a message. A cancelled one is closed. One that killed its
    process `max_deaths` times is failed as a poison pill, and one whose end was lost three times in a row as not
    recorded. One whose job must not run twice is failed at once, if the job had begun.

    What somebody's open transaction has locked is left as it is, for the caller's next look: also runs whose parent is.
    """
    try:
        return _reclaim(worker_id, ids, reason=reason, loss=loss, on_closed=on_closed)
    except pg_errors.LockNotAvailable:
        with autocommit() as connection:
            held = [row["id"] for row in fetch(connection, SQL["runs_of_worker"], {"id": worker_id})]
    return sum(
        _reclaim_alone(worker_id, run_id, reason=reason, loss=loss, on_closed=on_closed)
        for run_id in held
        if ids is None or run_id in ids
    )


def _reclaim_alone(worker_id: str, run_id: str, *, reason: str, loss: Loss, on_closed: RunClosed | None) -> int:
    try:
        return _reclaim(worker_id, [run_id], reason=reason, loss=loss, on_closed=on_closed)
    except pg_errors.LockNotAvailable:
        log.warning("run_not_reclaimed", run=run_id, hint="Somebody's open transaction has locked one of its family.")
        return 0


def _reclaim(worker_id: str, ids: Sequence[str] | None, *, reason: str, loss: Loss, on_closed: RunClosed | None) -> int:
    entry = _ENTRIES.get(loss)
    error = entry and {**entry, "message": reason}
    not_repeated = _not_repeated(reason)
    which = {"worker_id": worker_id, "ids": None if ids is None else list(ids)}
    with short_transaction(60, lock_seconds=LOCK_SECONDS) as connection, unit_of_work(connection) as unit:
        lost = fetch(connection, TRANSITIONS["runs_to_reclaim"], which)
        values = {
            "ids": [row["id"] for row in lost],
            "errors": [_sealed(row, not_repeated if row["begun_once"] else error) for row in lost],
            "error_code": error and error["code"],
            "deaths": int(loss == "death"),
        }
        rows = fetch(connection, TRANSITIONS["reclaim"], values) if lost else []
        lost_ends = {row["id"]: 1 + _lost_ends(row) for row in lost} if loss == "lost end" else {}
        begun_once = {row["id"] for row in lost if row["begun_once"]}
        ends = {row["id"]: _end(row, lost_ends.get(row["id"], 0), row["id"] in begun_once) for row in rows}
        cancelled = [run_id for run_id, end in ends.items() if end == "CANCELLED"]
        undone = set(undo.begin_waiting(connection, cancelled)) if cancelled else set()
        cancelled = [run_id for run_id in cancelled if run_id not in undone]
        _close(connection, cancelled, "cancelled", None, error, on_closed)
        failed: list[str] = []
        for code in (POISON_PILL, OutcomeNotRecordedError.code, JobLostError.code):
            ended = [run_id for run_id, end in ends.items() if end == code]
            failed += ended
            _close(connection, ended, "failed", code, not_repeated if code == JobLostError.code else error, on_closed)
    unit.publish()
    _cancel_children(failed)
    if rows:
        if loss == "death" and (counted := counters.shared()):
            counted.count("deaths", len(rows))
        log.warning("runs_reclaimed", runs=len(rows), failed=len(failed), worker=worker_id, reason=reason)
    return len(rows)


def _cancel_children(failed: Sequence[str]) -> None:
    """Of workflows that have failed. In a transaction of its own, since these were locked in another order."""
    if not failed:
        return
    try:
        with short_transaction(60, lock_seconds=LOCK_SECONDS) as connection, unit_of_work(connection) as unit:
            store.cancel_children(connection, failed)
        unit.publish()
    except pg_errors.LockNotAvailable:
        hint = "Somebody's open transaction has locked one of them, so they run on: cancel them when it has ended."
        log.warning("children_not_cancelled", runs=failed, hint=hint)


def _not_repeated(reason: str) -> dict[str, Any]:
    """What the record keeps of a loss after which the job must not run again."""
    text = str(JobLostError(reason))
    name, module = JobLostError.__name__, JobLostError.__module__
    return {"code": JobLostError.code, "kind": "death", "type": name, "module": module, "message": text, "args": [text]}


def _sealed(row: Row, error: Mapping[str, Any] | None) -> bytes | None:
    """One more error of a run that is reclaimed."""
    if error is None:
        return None
    entry = {**error, "attempt": row["attempt"], "at": row["now"].isoformat()}
    if row["started_at"] is not None:
        entry["began_at"] = row["started_at"].isoformat()
    return seal(row["tenant_id"], "error", storable_json(entry), row["key_id"])


def _lost_ends(row: Row) -> int:
    """How many of a run's last two errors say that an end is not on record."""
    entries = (open_error(row["tenant_id"], one, row["key_id"]) or {} for one in row["errors"] or ())
    return sum(entry.get("code") == OutcomeNotRecordedError.code for entry in entries)


def _end(row: Row, lost_ends: int, begun_once: bool) -> str | None:
    """How a run that was reclaimed ends at once: cancelled, or failed with this code; None if it is executed again."""
    if row["cancel_requested"]:
        return "CANCELLED"
    if begun_once:
        return JobLostError.code
    if row["deaths"] >= get_settings().max_deaths:
        return POISON_PILL
    if lost_ends >= _MOST_LOST_ENDS:
        return OutcomeNotRecordedError.code
    return None


def _close(
    connection: Connection,
    ids: Sequence[str],
    state: State,
    error_code: str | None,
    error: Mapping[str, Any] | None,
    on_closed: RunClosed | None,
) -> None:
    if ids:
        fingerprint = error_fingerprint(error_code, error) if state == "failed" else None
        rows = ends.close_waiting(connection, ids, state, error_code, fingerprint=fingerprint)
        closed_without_worker(connection, rows, on_closed)


def reclaim_from_dead_workers(on_closed: RunClosed | None = None) -> int:
    """Reclaim the runs of workers without a heartbeat. Only a worker whose own heartbeats got through all that time
    may.
    """
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


def reclaim_from_gone_neighbours(worker_id: str, on_closed: RunClosed | None = None) -> int:
    """Reclaim the runs of workers of this machine whose processes have ended. Nobody has to wait for their silence, so
    any worker may.
    """
    values = {
        "id": worker_id,
        "pid_namespace": processes.pid_namespace(),
        # Those that live are heard: should another machine be taken for this one, that tells.
        "silence": _NEIGHBOUR_SILENCE * get_settings().heartbeat_seconds,
    }
    if values["pid_namespace"] is None:
        return 0
    with autocommit() as connection:
        silent: list[Row] = fetch(connection, SQL["silent_neighbours"], values)
    reclaimed = 0
    for row in silent:
        if processes.is_gone(row["pid"], row["process_started"]) and not _has_living_child(row["id"]):
            reclaimed += reclaim(row["id"], None, reason="its worker's process has ended", on_closed=on_closed)
            with autocommit() as connection:
                gone = fetch(connection, SQL["deregister_gone_worker"], {"id": row["id"]})
            for worker in gone:
                _note_lost(worker["name"])
    return reclaimed


def _has_living_child(worker_id: str) -> bool:
    with autocommit() as connection:
        runs = fetch(connection, SQL["runs_of_worker"], {"id": worker_id})
    return any(processes.is_alive(row["worker_pid"]) for row in runs)


def _note_lost(name: str) -> None:
    log.error("worker_lost", worker=name)
    lost_workers.append(name)
    if counted := counters.shared():
        counted.count("workers_lost")
