"""Every read and write of runs. The statements are in `cgk_tasks/sql/transitions.sql` and `runs.sql`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, cast
from uuid import UUID

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.errors import IdempotencyConflictError, UnknownRunError
from cgk_tasks.events.typed_values import shown
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import NewRun, RunHandle, RunStatus, State
from cgk_tasks.runs.plain_columns import error_fingerprint, search_fields
from cgk_tasks.runs.sealing import key_for, open_error, open_sealed, opened, seal
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

_NEW_RUN_COLUMNS = (
    "id", "tenant_id", "event", "job", "state", "queue", "priority", "sealed_payload", "max_attempts", "run_at",
    "expires_at", "parent_id", "replay_of", "idempotency_key", "sealed_canvas", "scheduled_for", "trace", "key_id",
    "search_fields",
)  # fmt: skip
_COPY_FROM = 20
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
    tenant: Tenant | None
    sealed_cursor: bytes | None = None
    key_id: str | None = None
    first_failed_at: datetime | None = None
    scheduled_for: datetime | None = None
    trace: str | None = None
    expires_at: datetime | None = None

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


@dataclass(frozen=True, slots=True)
class Closing:
    """How an attempt ended, for the record. `result` and `error` are JSON text."""

    id: str
    tenant_id: str
    attempt: int
    state: State
    job: str | None = None
    result: str | None = None
    error: str | None = None
    error_code: str | None = None
    key_id: str | None = None
    """Of the run's row."""


@dataclass(frozen=True, slots=True)
class PutBack:
    """A run that goes on later. refund: 1 if the attempt does not count. error, payload and deferral (why, without an
    error) are JSON text.
    """

    id: str
    tenant_id: str
    attempt: int
    state: State
    refund: int = 0
    delay_seconds: float = 0.0
    error: str | None = None
    error_code: str | None = None
    payload: str | None = None
    job: str | None = None
    deferral: str | None = None
    key_id: str | None = None
    """Of the run's row."""


@dataclass(frozen=True, slots=True)
class Closed:
    id: str
    parent_id: str | None
    state: State
    has_canvas: bool = False
    """Of a parent that its last child closed: what follows is for the caller to send."""


def _columns(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _new_row(run: NewRun) -> tuple[Any, ...]:
    """The columns of a new run, its content sealed."""
    tenant_id = run.tenant_id
    key_id = key_for(tenant_id)
    return (
        run.id, tenant_id, run.event, run.job, run.state, run.queue, run.priority,
        seal(tenant_id, "payload", run.payload, key_id), run.max_attempts, run.run_at, run.expires_at, run.parent_id,
        run.replay_of, run.idempotency_key, seal(tenant_id, "canvas", run.canvas, key_id), run.scheduled_for,
        run.trace, key_id,
        search_fields(run.event, run.payload) if run.search_fields is None else run.search_fields,
    )  # fmt: skip


def _insert_one(connection: AnyConnection, run: NewRun, durability: str) -> int:
    values = dict(zip(_NEW_RUN_COLUMNS, _new_row(run), strict=True))
    values["durability"] = durability
    return execute(connection, TRANSITIONS["insert_run"], values)


def _copy(connection: Connection, runs: Sequence[NewRun]) -> None:
    """Many runs by COPY: a third of the cost of an INSERT from arrays."""
    now = fetch(connection, SQL["clock"])[0]["now"]
    rows = (_copied(run, now, run.state == "pending") for run in runs)
    copy(connection, TRANSITIONS["copy_runs"], _COPIED_TYPES, rows)


def _copied(run: NewRun, now: datetime, due: bool) -> tuple[Any, ...]:
    (
        run_id, tenant_id, event, job, state, queue, priority, payload, max_attempts, run_at, expires_at, parent_id,
        replay_of, key, canvas, scheduled_for, trace, key_id, search,
    ) = _new_row(run)  # fmt: skip
    return (
        UUID(run_id), tenant_id, event, job, state, queue, priority, payload, max_attempts, expires_at,
        parent_id and UUID(parent_id), replay_of and UUID(replay_of), key, canvas, scheduled_for, trace, key_id, search,
        None, run_at or now, now if due else None, int(due),
    )  # fmt: skip


_COPIED_TYPES = (
    "uuid", "text", "text", "text", "text", "text", "int2", "bytea", "int4", "timestamptz", "uuid", "uuid", "text",
    "bytea", "timestamptz", "text", "text", "text", "text", "timestamptz", "timestamptz", "int2",
)  # fmt: skip


def insert_unflushed(connection: Connection, run: NewRun) -> None:
    """Accept one run without an idempotency key, in a transaction of its own that does not wait for the disk."""
    _insert_one(connection, run, "off")


def insert(connection: AnyConnection, runs: Sequence[NewRun], hashes: Mapping[str, bytes]) -> list[RunHandle]:
    """Accept runs in the caller's transaction. `hashes`: payload hash by run id, for those with an idempotency key.

    Raises IdempotencyConflictError when a key was used with another payload; the transaction must be rolled back.
    """
    earlier = _reserve_keys(connection, [run for run in runs if run.idempotency_key], hashes)
    fresh = [run for run in runs if run.id not in earlier]
    if len(fresh) == 1:
        _insert_one(connection, fresh[0], "on")
    elif len(fresh) >= _COPY_FROM and isinstance(connection, psycopg.Connection):
        _copy(connection, fresh)
    elif fresh:
        _insert_many(connection, fresh)
    return [RunHandle(earlier[run.id], deduplicated=True) if run.id in earlier else RunHandle(run.id) for run in runs]


def _insert_many(connection: AnyConnection, runs: Sequence[NewRun]) -> None:
    execute(connection, TRANSITIONS["insert_runs"], _columns(_NEW_RUN_COLUMNS, map(_new_row, runs)))


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


_CLOSING = ("id", "attempt", "job", "state", "result", "error", "error_code", "fingerprint")
_PUT_BACK = (
    "id", "attempt", "state", "refund", "delay_seconds", "error", "error_code", "payload", "job", "deferral"
)  # fmt: skip


def _closing_row(one: Closing) -> tuple[Any, ...]:
    tenant_id, key_id = one.tenant_id, one.key_id
    result, error = seal(tenant_id, "result", one.result, key_id), seal(tenant_id, "error", one.error, key_id)
    fingerprint = _fingerprint(one.error_code, one.error) if one.state == "failed" else None
    return (one.id, one.attempt, one.job, one.state, result, error, one.error_code, fingerprint)


def _fingerprint(error_code: str | None, error: str | None) -> str:
    return error_fingerprint(error_code, None if error is None else json.loads(error))


def _put_back_row(one: PutBack) -> tuple[Any, ...]:
    tenant_id, key_id = one.tenant_id, one.key_id
    return (
        one.id, one.attempt, one.state, one.refund, one.delay_seconds, seal(tenant_id, "error", one.error, key_id),
        one.error_code, seal(tenant_id, "payload", one.payload, key_id), one.job,
        seal(tenant_id, "deferral", one.deferral, key_id),
    )  # fmt: skip


def finish(
    connection: AnyConnection, worker_id: str, closings: Sequence[Closing], *, flush: bool = False
) -> list[Closed]:
    """Close the runs that their attempts still own, and their parents when they were the last children.

    flush: wait for the disk. True when the caller's own writes commit in the same transaction.
    """
    values: dict[str, Any] = {"worker_id": worker_id, "durability": "on" if flush else "off"}
    if len(closings) == 1:
        one = dict(zip(_CLOSING, _closing_row(closings[0]), strict=True))
        closed = fetch_as(connection, TRANSITIONS["finish_one"], values | one, _closed)
    else:
        closed = fetch_as(
            connection, TRANSITIONS["finish"], values | _columns(_CLOSING, map(_closing_row, closings)), _closed
        )
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
                closed += _close_parent(connection, row)
        all_closed += closed
    return all_closed


def _close_parent(connection: AnyConnection, parent: Row) -> list[Closed]:
    """Its result has each child's by the name of the job."""
    children = fetch(connection, TRANSITIONS["ends_of_children"], {"id": parent["id"]})
    states = {child["state"] for child in children}
    tenant_id, key_id = parent["tenant_id"], parent["key_id"]
    results = (
        f"{json.dumps(child['job'] or '')} : {opened(child)['result'] or 'null'}" for child in children
    )  # fmt: skip
    state = "completed" if states == {"completed"} else "failed" if "failed" in states else "cancelled"
    codes = [child["error_code"] for child in children if child["error_code"] is not None]
    code = None if state == "completed" else max(codes, default="CHILD_NOT_COMPLETED")
    values = {
        "id": parent["id"],
        "state": state,
        "error_code": code,
        "result": seal(tenant_id, "result", f"{{ {', '.join(results)} }}", key_id),
        "fingerprint": (
            error_fingerprint(code, open_error(tenant_id, parent["last_error"], key_id)) if state == "failed" else None
        ),
    }
    return closed_of(fetch(connection, TRANSITIONS["close_parent"], values))


def closed_of(rows: Iterable[Row]) -> list[Closed]:
    return [Closed(row["id"], row["parent_id"], row["state"], row["has_canvas"]) for row in rows]


def put_back(connection: AnyConnection, worker_id: str, runs: Sequence[PutBack]) -> set[str]:
    """Running → retrying or pending. Returns the ids that were put back; a missing one is cancelled or not ours."""
    values: dict[str, Any] = {"worker_id": worker_id, **_columns(_PUT_BACK, map(_put_back_row, runs))}
    return {row["id"] for row in fetch(connection, TRANSITIONS["release"], values)}


def close_waiting(
    connection: AnyConnection,
    ids: Sequence[str],
    state: State,
    error_code: str | None,
    *,
    error: bytes | None = None,
    fingerprint: str | None = None,
) -> list[Row]:
    """Close runs that no worker holds. error: one more for their record, sealed. fingerprint: of those that fail."""
    values = {"ids": list(ids), "state": state, "error_code": error_code, "error": error, "fingerprint": fingerprint}
    return fetch(connection, TRANSITIONS["close_waiting"], values)


def insert_failed(connection: AnyConnection, run: NewRun, error_code: str, error: str) -> None:
    """Record a run that is not to be made, as failed from the start. Nothing if there is one of this id."""
    if already_closed(connection, [run.id]):
        return
    if _insert_one(connection, run._replace(state="scheduled"), "on"):
        sealed = seal(run.tenant_id, "error", error, key_for(run.tenant_id))
        fingerprint = _fingerprint(error_code, error)
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
    _insert_many(connection, children)
    return True


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
    if connection is not None:
        rows = fetch(connection, SQL["get_run"], {"id": run_id})
    else:
        with autocommit() as own:
            rows = fetch(own, SQL["get_run"], {"id": run_id})
    return opened(rows[0]) if rows else None


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
