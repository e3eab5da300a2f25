"""Reads and writes of runs that are there. The statements are in `cgk_tasks/sql/transitions.sql` and `runs.sql`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from psycopg import errors as pg_errors

from cgk_tasks.errors import UnknownRunError
from cgk_tasks.events.typed_values import shown
from cgk_tasks.logger import get_logger
from cgk_tasks.runs import bodies
from cgk_tasks.runs.closing_days import ANY_DAY, closing_days
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.ends import Closed, close_parents, close_waiting, closed_of, fingerprint_of
from cgk_tasks.runs.insertion import insert_many, insert_one
from cgk_tasks.runs.models import NewRun, RunStatus, State
from cgk_tasks.runs.sealing import key_for, open_sealed, opened, seal
from cgk_tasks.sql.postgres import (
    AnyConnection,
    Connection,
    Row,
    autocommit,
    execute,
    fetch,
    fetch_as,
    fetch_directly,
    fetch_or_before,
    statements,
    transaction,
    uuid_array,
)
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.visibility import may_see, sees_all

SQL, TRANSITIONS = statements("runs"), statements("transitions")
log = get_logger("cgk_tasks.runs")

_STATUS_FIELDS = {field.name for field in dataclasses.fields(RunStatus)}


class Claimed(NamedTuple):
    """A run that this worker owns now, with everything needed to run it.

    Its content is opened when it is asked for, so that what cannot be opened costs no other run of the packet anything.
    """

    id: str
    tenant_id: str
    event: str
    job: str | None
    queue: str
    priority: int
    sealed_payload: bytes
    max_attempts: int | None
    attempt: int
    deaths: int
    run_at: datetime
    created_at: datetime
    started_at: datetime
    parent_id: str | None
    sealed_canvas: bytes | None
    sealed_cursor: bytes | None = None
    key_id: str | None = None
    first_failed_at: datetime | None = None
    scheduled_for: datetime | None = None
    trace: str | None = None
    expires_at: datetime | None = None
    tenant: Tenant | None = None

    @property
    def payload(self) -> str:
        return open_sealed(self.tenant_id, "payload", self.sealed_payload, self.key_id)

    @property
    def canvas(self) -> str | None:
        return open_sealed(self.tenant_id, "canvas", self.sealed_canvas, self.key_id)

    @property
    def cursor(self) -> str | None:
        return open_sealed(self.tenant_id, "cursor", self.sealed_cursor, self.key_id)

    @property
    def trying_since(self) -> datetime:
        """What `RetryConfig.max_elapsed` counts from: the first failure, not the wait before the first attempt."""
        return self.first_failed_at or self.started_at


def already_closed(connection: AnyConnection, ids: Sequence[str]) -> set[str]:
    return {row["id"] for row in fetch(connection, SQL["closed_ids"], {"ids": list(ids)})}


def forget_dispatch(ids: Sequence[str]) -> None:
    with autocommit() as connection:
        execute(connection, TRANSITIONS["forget_dispatch"], {"ids": list(ids)})


def claim(ids: Sequence[str], worker_id: str, pid: int) -> list[Claimed]:
    """Take a packet's runs, in the packet's order. What does not come back is not ours to run. One that somebody's open
    transaction has locked comes again, should it still be there afterwards.
    """
    try:
        return _claim(ids, worker_id, pid)
    except pg_errors.LockNotAvailable:
        log.warning(
            "runs_locked", hint="An open transaction cancels or signals one of them: see pg_locks.", runs=len(ids)
        )
    with autocommit() as connection:
        values = {"worker_id": worker_id, "pid": pid, "ids": uuid_array(ids)}
        return _in_order(connection, ids, fetch_as(connection, TRANSITIONS["claim_free"], values, _claimed_or_held))


def _claim(ids: Sequence[str], worker_id: str, pid: int) -> list[Claimed]:
    values: dict[str, Any] = {"worker_id": worker_id, "pid": pid}
    with autocommit() as connection:
        if len(ids) == 1:
            runs = fetch_directly(connection, TRANSITIONS["claim_one"], values | {"id": ids[0]}, _claimed_or_held)
        else:
            runs = fetch_as(connection, TRANSITIONS["claim"], values | {"ids": uuid_array(ids)}, _claimed_or_held)
        return _in_order(connection, ids, runs)


def _in_order(connection: Connection, ids: Sequence[str], runs: Iterable[Claimed | None]) -> list[Claimed]:
    claimed = {run.id: run for run in runs if run is not None}
    found = [claimed.pop(run_id) for run_id in ids if run_id in claimed]  # once, also where a message has it twice
    if any(bodies.is_reference(run.sealed_payload) for run in found):
        return _with_bodies(connection, found)
    return found


def _with_bodies(connection: Connection, runs: Sequence[Claimed]) -> list[Claimed]:
    """The runs of a packet with their large payloads, read at once. What is not found is missed when it is opened."""
    references = [(run.tenant_id, run.sealed_payload) for run in runs if bodies.is_reference(run.sealed_payload)]
    found = bodies.find_all(connection, references)
    return [run._replace(sealed_payload=found.get(run.sealed_payload, run.sealed_payload)) for run in runs]


def claims_barred() -> bool:
    """Whether nobody may claim now: PostgreSQL crashed, and some worker has not yet said what it is running."""
    with autocommit() as connection:
        return bool(fetch(connection, TRANSITIONS["claims_barred"])[0]["barred"])


def require_unlocked(connection: AnyConnection, run_id: str) -> None:
    """Raises psycopg's LockNotAvailable if somebody's open transaction has locked this open run."""
    fetch(connection, SQL["lock_at_once"], {"id": run_id})


def unlocked(ids: Sequence[str]) -> set[str]:
    """Those of these open runs that nobody's open transaction has locked."""
    with autocommit() as connection:
        return {row["id"] for row in fetch(connection, SQL["unlocked"], {"ids": list(ids)})}


def running(connection: AnyConnection, ids: Sequence[str], worker_id: str) -> list[Claimed]:
    """The runs among these that the worker holds."""
    values = {"ids": list(ids), "worker_id": worker_id}
    runs = fetch_as(connection, TRANSITIONS["running"], values, _claimed_or_held)
    return [run for run in runs if run is not None]


def _claimed_or_held(columns: Sequence[str]) -> Callable[[tuple[Any, ...]], Claimed | None]:
    """Reads a row of `claim` or `running`; None where the run is held instead. The tenant's columns come with it."""
    own = itemgetter(*map(columns.index, Claimed._fields[:-1]))
    of_tenant = itemgetter(*map(columns.index, ("tenant", "status", "isolation", "schema_name", "role_name")))
    state, tenant_id = columns.index("state"), columns.index("tenant")

    def read(row: tuple[Any, ...]) -> Claimed | None:
        if row[state] != "running":
            return None
        tenant = _tenant(*of_tenant(row)) if row[tenant_id] is not None else None
        return Claimed._make((*own(row), tenant))

    return read


_tenant = lru_cache(maxsize=1024)(Tenant)


def insert_failed(connection: AnyConnection, run: NewRun, error_code: str, error: str) -> None:
    """Record a run that is not to be made, as failed from the start. Nothing if there is one of this id."""
    if already_closed(connection, [run.id]):
        return
    if insert_one(connection, run._replace(state="scheduled")):
        sealed = seal(run.tenant_id, "error", error, key_for(run.tenant_id))
        fingerprint = fingerprint_of(error_code, error)
        close_waiting(connection, [run.id], "failed", error_code, error=sealed, fingerprint=fingerprint)


def replace(connection: AnyConnection, worker_id: str, run: Claimed) -> bool:
    """Remove a claimed run, whose place another one takes under its id. False if the attempt no longer owns it."""
    values = {"id": run.id, "attempt": run.attempt, "worker_id": worker_id}
    return bool(fetch(connection, TRANSITIONS["replace"], values))


def cancel_requested(connection: AnyConnection, worker_id: str, run: Claimed) -> bool:
    """Whether the run is this attempt's, and somebody has cancelled it."""
    values = {"id": run.id, "attempt": run.attempt, "worker_id": worker_id}
    return bool(fetch(connection, TRANSITIONS["cancel_requested"], values))


def fan_out(connection: AnyConnection, worker_id: str, parent: Claimed, children: Sequence[NewRun]) -> bool:
    """Make a claimed run the parent of `children`. False if the run is no longer ours."""
    values = {"id": parent.id, "attempt": parent.attempt, "worker_id": worker_id, "children": len(children)}
    if not fetch(connection, TRANSITIONS["fan_out"], values):
        return False
    insert_many(connection, children)
    return True


def begin_once(connection: AnyConnection, worker_id: str, run: Claimed) -> bool:
    """Note that the attempt begins a job that must not run twice. False if the attempt no longer owns the run."""
    values = {"id": run.id, "attempt": run.attempt, "worker_id": worker_id}
    return bool(fetch(connection, TRANSITIONS["begin_once"], values))


def save_cursor(connection: AnyConnection, worker_id: str, run: Claimed, cursor: str) -> bool:
    """Keep how far a run has come. False if the attempt no longer owns the run."""
    sealed = seal(run.tenant_id, "cursor", cursor, run.key_id)
    values = {"id": run.id, "attempt": run.attempt, "worker_id": worker_id, "sealed_cursor": sealed}
    return bool(fetch(connection, TRANSITIONS["save_cursor"], values))


def find(run_id: str, connection: AnyConnection | None = None) -> Row | None:
    """The record of a run that can be seen here; None for another tenant's, as if there were none."""
    row = record_of(run_id, connection)
    return row if row is not None and may_see(row["tenant_id"]) else None


def record_of(run_id: str, connection: AnyConnection | None = None) -> Row | None:
    """The record of a run, whosever it is, with its content opened: for the framework itself, never for what a caller
    asks for.
    """
    with autocommit() if connection is None else nullcontext(connection) as used:
        rows = bodies.brought(used, _looked_for(run_id, lambda values: fetch(used, SQL["get_run"], values)))
    return opened(rows[0]) if rows else None


def get(run_id: str) -> RunStatus:
    """The run as it stands. Raises UnknownRunError."""
    from cgk_tasks.runs.progress import told_in  # a send reads no run

    with autocommit() as connection:
        rows = _looked_for(
            run_id, lambda values: fetch_or_before(connection, SQL["get_run_as_told"], SQL["get_run"], values)
        )
    if not rows or not may_see(rows[0]["tenant_id"]):
        raise UnknownRunError(run_id)
    told = told_in(rows[0])
    return dataclasses.replace(status_of(opened(rows[0])), progress=told.progress, metadata=told.metadata)


def _looked_for(run_id: str, look: Callable[[Mapping[str, str]], list[Row]]) -> list[Row]:
    """What a look finds in the days in which the run can have closed; else in all of them."""
    return look({"id": run_id, **closing_days(run_id)}) or look({"id": run_id, **ANY_DAY})


def open_canvas(row: Row) -> str | None:
    """What a row has of a run's place in a canvas, as JSON text."""
    return open_sealed(row["tenant_id"], "canvas", row["sealed_canvas"], row["key_id"])


def status_of(row: Row) -> RunStatus:
    values = {name: value for name, value in row.items() if name in _STATUS_FIELDS}
    for name in ("payload", "result"):
        values[name] = shown(row["event"], decode(row.get(name)))
    return RunStatus(**values)


def listing(
    *,
    tenant_id: str | None = None,
    event: str | None = None,
    job: str | None = None,
    state: State | None = None,
    parent_id: str | None = None,
    queue: str | None = None,
    event_prefix: str | None = None,
    limit: int = 50,
) -> list[RunStatus]:
    """Runs that match, the newest first, without payloads, results and errors; `error_code` is the last error's."""
    values = {
        "tenant_id": tenant_id, "event": event, "job": job, "state": state, "parent_id": parent_id, "queue": queue,
        "event_prefix": event_prefix, "limit": limit,
    }  # fmt: skip
    with autocommit() as connection:
        return [status_of(row) for row in fetch(connection, SQL["list_runs"], values)]


def counts(tenant_id: str | None = None, event: str | None = None) -> list[Row]:
    """Rows of tenant_id, state, runs."""
    with autocommit() as connection:
        return fetch(connection, SQL["count_runs"], {"tenant_id": tenant_id, "event": event})


def cancel(run_id: str, connection: AnyConnection | None = None, *, interrupt: bool = True) -> list[Closed]:
    """Cancel a run and its children: at once where no worker holds them, else at the worker's next look. interrupt:
    False to let an attempt that is on come to its end; no other follows it.

    Returns the runs that were closed at once, in the caller's transaction if it gives one. Raises UnknownRunError
    inside the context of a tenant whose run it is not.
    """
    with transaction() if connection is None else nullcontext(connection) as used:
        if not sees_all() and find(run_id, used) is None:
            raise UnknownRunError(run_id)
        return cancel_with_children(used, [run_id], interrupt=interrupt)


def cancel_with_children(connection: AnyConnection, ids: Sequence[str], *, interrupt: bool = True) -> list[Closed]:
    """Cancel runs, their children, and theirs, as `cancel` does. Those that have something to undo do that first."""
    from cgk_tasks.runs import undo  # nor does it cancel one

    fetch(connection, TRANSITIONS["lock_to_cancel"], {"ids": list(ids)})
    values = {"ids": list(ids), "undone": undo.begin_waiting(connection, ids)}
    closed = closed_of(fetch(connection, TRANSITIONS["cancel"], values))
    request = "request_cancel" if interrupt else "request_cancel_after_its_attempt"
    fetch(connection, TRANSITIONS[request], values)
    return closed + close_parents(connection, closed)


def cancel_children(connection: AnyConnection, ids: Sequence[str]) -> list[Closed]:
    """Cancel what these workflows have invoked and is open yet, because they end. Before their own rows are locked, as
    whoever ends a child locks it before its parent.
    """
    children = [row["id"] for row in fetch(connection, SQL["open_children"], {"ids": list(ids)})]
    return cancel_with_children(connection, children) if children else []


def database_time() -> datetime:
    """What PostgreSQL's clock says now, by which runs are created."""
    with autocommit() as connection:
        now: datetime = fetch(connection, SQL["clock"])[0]["now"]
        return now


def cancel_waiting(
    connection: Connection, queues: Sequence[str], tenant_id: str | None, before: datetime, limit: int
) -> list[Closed]:
    """Cancel runs of these queues that wait and were sent before a moment: `limit` of them, or all that are left.

    With them come the parents that this closes.
    """
    values = {"queues": list(queues), "tenant_id": tenant_id, "before": before, "limit": limit}
    closed = closed_of(fetch(connection, TRANSITIONS["cancel_waiting"], values))
    return closed + close_parents(connection, [run for run in closed if run.parent_id])
