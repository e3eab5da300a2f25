"""Every read and write of runs. The statements are in `cgk_tasks/sql/transitions.sql` and `runs.sql`."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple, cast

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.errors import IdempotencyConflictError, UnknownRunError
from cgk_tasks.events.typed_values import shown
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import NewRun, RunHandle, RunStatus, State
from cgk_tasks.runs.visibility import may_see, sees_all
from cgk_tasks.sql.postgres import (
    AnyConnection,
    Connection,
    Row,
    autocommit,
    copy,
    execute,
    fetch,
    fetch_as,
    statements,
    transaction,
)
from cgk_tasks.tenancy.models import Tenant

SQL, TRANSITIONS = statements("runs"), statements("transitions")

_NEW_RUN_COLUMNS = NewRun._fields
_COPY_FROM = 20
_STATUS_FIELDS = {field.name for field in dataclasses.fields(RunStatus)}


class Claimed(NamedTuple):
    """A run that this worker owns now, with everything needed to run it."""

    id: str
    tenant_id: str
    event: str
    job: str | None
    queue: str
    priority: int
    payload: str
    max_attempts: int | None
    attempt: int
    deaths: int
    run_at: datetime
    created_at: datetime
    started_at: datetime
    parent_id: str | None
    canvas: str | None
    tenant: Tenant | None
    cursor: str | None = None
    first_failed_at: datetime | None = None
    scheduled_for: datetime | None = None
    trace: str | None = None
    expires_at: datetime | None = None

    @property
    def trying_since(self) -> datetime:
        """What `RetryConfig.max_elapsed` counts from: the first failure, not the wait before the first attempt."""
        return self.first_failed_at or self.started_at


@dataclass(frozen=True, slots=True)
class Closing:
    """How an attempt ended, for the record."""

    id: str
    attempt: int
    state: State
    job: str | None = None
    result: str | None = None
    error: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class PutBack:
    """A run that goes on later. refund: 1 if the attempt does not count. put_off: JSON that says why,
    without an error.
    """

    id: str
    attempt: int
    state: State
    refund: int = 0
    delay_seconds: float = 0.0
    error: str | None = None
    payload: str | None = None
    job: str | None = None
    put_off: str | None = None


@dataclass(frozen=True, slots=True)
class Closed:
    id: str
    parent_id: str | None
    state: State
    canvas: str | None = None
    """Of a parent that its last child closed: what follows is for the caller to send."""


def _columns(items: Sequence[Any], names: Sequence[str]) -> dict[str, Any]:
    columns = zip(*map(attrgetter(*names), items), strict=True)
    return {name: list(column) for name, column in zip(names, columns, strict=True)}


def _copy(connection: Connection, runs: Sequence[NewRun]) -> None:
    """Many runs by COPY: a third of the cost of an INSERT from arrays."""
    now = fetch(connection, SQL["clock"])[0]["now"]
    copy(connection, TRANSITIONS["copy_runs"], (_copied(run, now, run.state == "pending") for run in runs))


def _copied(run: NewRun, now: datetime, due: bool) -> tuple[Any, ...]:
    return (
        run.id, run.tenant_id, run.event, run.job, run.state, run.queue, run.priority, run.payload, run.max_attempts,
        run.expires_at, run.parent_id, run.replay_of, run.idempotency_key, run.canvas, run.scheduled_for, run.trace,
        None, run.run_at or now, now if due else None, int(due),
    )  # fmt: skip


def insert_unflushed(connection: Connection, run: NewRun) -> None:
    """Accept one run without an idempotency key, in a transaction of its own that does not wait for the disk."""
    execute(connection, TRANSITIONS["insert_run"], run._asdict() | {"durability": "off"})


def insert(connection: AnyConnection, runs: Sequence[NewRun], hashes: Mapping[str, bytes]) -> list[RunHandle]:
    """Accept runs in the caller's transaction. `hashes`: payload hash by run id, for those with an idempotency key.

    Raises IdempotencyConflictError when a key was used with another payload; the transaction must be rolled back.
    """
    earlier = _reserve_keys(connection, [run for run in runs if run.idempotency_key], hashes)
    fresh = [run for run in runs if run.id not in earlier]
    if len(fresh) == 1:
        execute(connection, TRANSITIONS["insert_run"], fresh[0]._asdict() | {"durability": "on"})
    elif len(fresh) >= _COPY_FROM and isinstance(connection, psycopg.Connection):
        _copy(connection, fresh)
    elif fresh:
        execute(connection, TRANSITIONS["insert_runs"], _columns(fresh, _NEW_RUN_COLUMNS))
    return [RunHandle(earlier[run.id], deduplicated=True) if run.id in earlier else RunHandle(run.id) for run in runs]


def _reserve_keys(connection: AnyConnection, runs: Sequence[NewRun], hashes: Mapping[str, bytes]) -> dict[str, str]:
    """Reserve the idempotency keys; returns the earlier run's id for each run whose key was taken."""
    if not runs:
        return {}
    first: dict[tuple[str, str, str], NewRun] = {}
    for run in runs:
        first.setdefault((run.tenant_id, run.event, cast("str", run.idempotency_key)), run)
    keys = list(first)
    values = {
        "tenant_id": [key[0] for key in keys],
        "event": [key[1] for key in keys],
        "key": [key[2] for key in keys],
        "run_id": [first[key].id for key in keys],
        "payload_hash": [hashes[first[key].id] for key in keys],
        "seconds": get_settings().idempotency_seconds,
    }
    reserved = {row["run_id"] for row in fetch(connection, SQL["reserve_keys"], values)}
    if len(reserved) == len(runs):
        return {}
    holders = {
        (row["tenant_id"], row["event"], row["key"]): (row["run_id"], bytes(row["payload_hash"]))
        for row in fetch(connection, SQL["find_keys"], values)
    }
    earlier: dict[str, str] = {}
    for run in runs:
        key = cast("str", run.idempotency_key)
        run_id, payload_hash = holders[run.tenant_id, run.event, key]
        if payload_hash != hashes[run.id]:
            raise IdempotencyConflictError(run.event, key, run_id)
        if run_id != run.id:
            earlier[run.id] = run_id
    return earlier


def already_closed(connection: AnyConnection, ids: Sequence[str]) -> set[str]:
    return {row["id"] for row in fetch(connection, SQL["closed_ids"], {"ids": list(ids)})}


def forget_dispatch(ids: Sequence[str]) -> None:
    with autocommit() as connection:
        execute(connection, TRANSITIONS["forget_dispatch"], {"ids": list(ids)})


def claim(ids: Sequence[str], worker_id: str, pid: int) -> list[Claimed]:
    """Take a packet's runs, in the packet's order. What does not come back is not ours to run."""
    values: dict[str, Any] = {"worker_id": worker_id, "pid": pid}
    with autocommit() as connection:
        if len(ids) == 1:
            runs = fetch_as(connection, TRANSITIONS["claim_one"], values | {"id": ids[0]}, _claimed_or_held)
        else:
            runs = fetch_as(connection, TRANSITIONS["claim"], values | {"ids": list(ids)}, _claimed_or_held)
    claimed = {run.id: run for run in runs if run is not None}
    return [claimed[run_id] for run_id in ids if run_id in claimed]


def claims_barred() -> bool:
    """Whether nobody may claim now: PostgreSQL crashed, and some worker has not yet said what it is running."""
    with autocommit() as connection:
        return bool(fetch(connection, TRANSITIONS["claims_barred"])[0]["barred"])


def running(connection: AnyConnection, ids: Sequence[str], worker_id: str) -> list[Claimed]:
    """The runs among these that the worker holds."""
    values = {"ids": list(ids), "worker_id": worker_id}
    runs = fetch_as(connection, TRANSITIONS["running"], values, _claimed_or_held)
    return [run for run in runs if run is not None]


def _claimed_or_held(columns: Sequence[str]) -> Callable[[tuple[Any, ...]], Claimed | None]:
    """Reads a row of `claim` or `running`; None where the run is held instead. The tenant's columns come with it."""

    def of(names: Sequence[str]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
        return itemgetter(*map(columns.index, names))

    place = Claimed._fields.index("tenant")
    before, after = of(Claimed._fields[:place]), of(Claimed._fields[place + 1 :])
    of_tenant = of(("tenant", "status", "isolation", "schema_name", "role_name"))
    state, tenant_id = columns.index("state"), columns.index("tenant")

    def read(row: tuple[Any, ...]) -> Claimed | None:
        if row[state] != "running":
            return None
        tenant = _tenant(*of_tenant(row)) if row[tenant_id] is not None else None
        return Claimed._make((*before(row), tenant, *after(row)))

    return read


_tenant = lru_cache(maxsize=1024)(Tenant)


_CLOSING = [field.name for field in dataclasses.fields(Closing)]
_PUT_BACK = [field.name for field in dataclasses.fields(PutBack)]


def finish(
    connection: AnyConnection, worker_id: str, closings: Sequence[Closing], *, flush: bool = False
) -> list[Closed]:
    """Close the runs that their attempts still own, and their parents when they were the last children.

    flush: wait for the disk. True when the caller's own writes commit in the same transaction.
    """
    values: dict[str, Any] = {"worker_id": worker_id, "durability": "on" if flush else "off"}
    if len(closings) == 1:
        one = {name: getattr(closings[0], name) for name in _CLOSING}
        closed = fetch_as(connection, TRANSITIONS["finish_one"], values | one, _closed)
    else:
        closed = fetch_as(connection, TRANSITIONS["finish"], values | _columns(closings, _CLOSING), _closed)
    if any(run.parent_id for run in closed):
        closed += close_parents(connection, closed)
    return closed


def _closed(columns: Sequence[str]) -> Callable[[tuple[Any, ...]], Closed]:
    wanted = itemgetter(*map(columns.index, ("id", "parent_id", "state")))
    return lambda row: Closed(*wanted(row))


def close_parents(connection: AnyConnection, closed: Sequence[Closed]) -> list[Closed]:
    """Count closed children off their parents, and close the parents that have none left, up to the root."""
    all_closed: list[Closed] = []
    while parents := [run.parent_id for run in closed if run.parent_id]:
        rows = fetch(connection, TRANSITIONS["count_down_children"], {"parents": parents})
        closed = []
        for row in rows:
            if row["children_open"] <= 0:
                closed += closed_of(fetch(connection, TRANSITIONS["close_parent"], {"id": row["id"]}))
        all_closed += closed
    return all_closed


def closed_of(rows: Iterable[Row]) -> list[Closed]:
    return [Closed(row["id"], row["parent_id"], row["state"], row.get("canvas")) for row in rows]


def put_back(connection: AnyConnection, worker_id: str, runs: Sequence[PutBack]) -> set[str]:
    """Running → retrying or pending. Returns the ids that were put back; a missing one is cancelled or not ours."""
    values = _columns(runs, _PUT_BACK) | {"worker_id": worker_id}
    values["deferral"] = values.pop("put_off")
    return {row["id"] for row in fetch(connection, TRANSITIONS["release"], values)}


def close_waiting(
    connection: AnyConnection, ids: Sequence[str], state: State, error_code: str | None, error: str | None = None
) -> list[Row]:
    """Close runs that no worker holds. error: JSON, one more for their record."""
    values = {"ids": list(ids), "state": state, "error_code": error_code, "error": error}
    return fetch(connection, TRANSITIONS["close_waiting"], values)


def insert_failed(connection: AnyConnection, run: NewRun, error_code: str, error: str) -> None:
    """Record a run that is not to be made, as failed from the start. Nothing if there is one of this id."""
    if already_closed(connection, [run.id]):
        return
    values = run._asdict() | {"state": "scheduled", "durability": "on"}
    if execute(connection, TRANSITIONS["insert_run"], values):
        close_waiting(connection, [run.id], "failed", error_code, error)


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
    execute(connection, TRANSITIONS["insert_runs"], _columns(children, _NEW_RUN_COLUMNS))
    return True


def save_cursor(connection: AnyConnection, worker_id: str, run: Claimed, cursor: str) -> bool:
    """Keep how far a run has come. False if the attempt no longer owns the run."""
    values = {"id": run.id, "attempt": run.attempt, "worker_id": worker_id, "cursor": cursor}
    return bool(fetch(connection, TRANSITIONS["save_cursor"], values))


def find(run_id: str, connection: AnyConnection | None = None) -> Row | None:
    """The record of a run that can be seen here; None for another tenant's, as if there were none."""
    row = record_of(run_id, connection)
    return row if row is not None and may_see(row["tenant_id"]) else None


def record_of(run_id: str, connection: AnyConnection | None = None) -> Row | None:
    """The record of a run, whosever it is: for the framework itself, never for what a caller asks for."""
    if connection is not None:
        rows = fetch(connection, SQL["get_run"], {"id": run_id})
    else:
        with autocommit() as own:
            rows = fetch(own, SQL["get_run"], {"id": run_id})
    return rows[0] if rows else None


def get(run_id: str) -> RunStatus:
    """The run as it stands. Raises UnknownRunError."""
    row = find(run_id)
    if row is None:
        raise UnknownRunError(run_id)
    return status_of(row)


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
    limit: int = 50,
) -> list[RunStatus]:
    """Runs that match, the newest first, without payloads, results and errors; `error_code` is the last error's."""
    values = {
        "tenant_id": tenant_id, "event": event, "job": job, "state": state, "parent_id": parent_id, "limit": limit,
    }  # fmt: skip
    with autocommit() as connection:
        return [status_of(row) for row in fetch(connection, SQL["list_runs"], values)]


def counts(tenant_id: str | None = None, event: str | None = None) -> list[Row]:
    """Rows of tenant_id, state, runs."""
    with autocommit() as connection:
        return fetch(connection, SQL["count_runs"], {"tenant_id": tenant_id, "event": event})


def cancel(run_id: str, connection: Connection | None = None) -> list[Closed]:
    """Cancel a run and its children: at once where no worker holds them, else at the worker's next look.

    Returns the runs that were closed at once, in the caller's transaction if it gives one. Raises UnknownRunError
    inside the context of a tenant whose run it is not.
    """
    with transaction() if connection is None else nullcontext(connection) as used:
        if not sees_all() and find(run_id, used) is None:
            raise UnknownRunError(run_id)
        closed = closed_of(fetch(used, TRANSITIONS["cancel"], {"id": run_id}))
        closed += close_parents(used, [run for run in closed if run.parent_id and run.parent_id != run_id])
        fetch(used, TRANSITIONS["request_cancel"], {"id": run_id})
    return closed
