"""New runs come into the record: one by one, many in a statement, and by COPY."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.errors import IdempotencyConflictError
from cgk_tasks.runs import bodies
from cgk_tasks.runs.copied_rows import RunRows
from cgk_tasks.runs.ends import columns
from cgk_tasks.runs.models import NewRun, RunHandle
from cgk_tasks.runs.plain_columns import search_fields, with_trace
from cgk_tasks.runs.sealing import key_for, seal
from cgk_tasks.sql.piped import Piped, piped
from cgk_tasks.sql.postgres import AnyConnection, Connection, copy, execute, fetch, statements

SQL, TRANSITIONS = statements("runs"), statements("transitions")

_NEW_RUN_COLUMNS = (
    "id", "tenant_id", "event", "job", "state", "queue", "priority", "sealed_payload", "max_attempts", "run_at",
    "expires_at", "parent_id", "replay_of", "idempotency_key", "sealed_canvas", "scheduled_for", "trace", "key_id",
    "search_fields",
)  # fmt: skip
_COPY_FROM = 20


_NOTHING: Final[Mapping[str, bytes]] = {}


def _kept_apart(connection: AnyConnection, runs: Sequence[NewRun]) -> Mapping[str, bytes]:
    """Writes the large payloads among these where they stay. Returns what stands for them in the rows, by run id."""
    large = [run for run in runs if len(run.payload) >= bodies.FROM_CHARACTERS]
    if not large or not bodies.are_kept(connection):
        return _NOTHING
    return bodies.keep(
        connection,
        (
            bodies.Body(run.id, run.tenant_id, seal(run.tenant_id, "payload", run.payload, key_for(run.tenant_id)))
            for run in large
        ),
    )


def _new_row(run: NewRun, kept_apart: Mapping[str, bytes] = _NOTHING) -> tuple[Any, ...]:
    """The columns of a new run, its content sealed."""
    tenant_id = run.tenant_id
    key_id = key_for(tenant_id)
    fields = search_fields(run.event, run.payload) if run.search_fields is None else run.search_fields
    return (
        run.id, tenant_id, run.event, run.job, run.state, run.queue, run.priority,
        kept_apart.get(run.id) or seal(tenant_id, "payload", run.payload, key_id), run.max_attempts, run.run_at,
        run.expires_at, run.parent_id, run.replay_of, run.idempotency_key,
        seal(tenant_id, "canvas", run.canvas, key_id), run.scheduled_for, run.trace, key_id,
        fields if run.trace is None else with_trace(fields, run.trace),
    )  # fmt: skip


def insert_one(connection: AnyConnection, run: NewRun) -> int:
    """In the caller's transaction. Returns 0 if a run of this id is there, else 1."""
    name = "insert_run" if run.place is None else "insert_in_lane"
    return execute(connection, TRANSITIONS[name], values_of(run, kept_apart=_kept_apart(connection, (run,))))


def values_of(run: NewRun, durability: str = "on", kept_apart: Mapping[str, bytes] = _NOTHING) -> dict[str, Any]:
    """The columns of a new run by their names, for a statement that inserts one."""
    values = dict(zip(_NEW_RUN_COLUMNS, _new_row(run, kept_apart), strict=True))
    values["durability"] = durability
    if run.place is not None:
        values["lane_id"], values["rank"] = run.place
    return values


def _copy(connection: Connection, runs: Sequence[NewRun]) -> None:
    """Many runs by COPY: a third of the cost of an INSERT from arrays."""
    rows = _rows(connection, _kept_apart(connection, runs))
    in_lanes = [run for run in runs if run.place is not None]
    if len(in_lanes) < len(runs):
        copy(connection, TRANSITIONS["copy_runs"], rows.of(run for run in runs if run.place is None))
    if in_lanes:
        copy(connection, TRANSITIONS["copy_in_lanes"], rows.of(in_lanes))


def copy_as_made(connection: Connection, runs: Iterable[NewRun], *, in_lanes: bool) -> None:
    """Insert runs while they are made, in the caller's transaction: PostgreSQL works at the first ones meanwhile.

    runs: with small payloads and without idempotency keys. in_lanes: whether all have a place, or none.
    """
    copy(connection, TRANSITIONS["copy_in_lanes" if in_lanes else "copy_runs"], _rows(connection).of(runs))


def _rows(connection: Connection, kept_apart: Mapping[str, bytes] = _NOTHING) -> RunRows:
    return RunRows(fetch(connection, SQL["clock"])[0]["now"], kept_apart, connection.info.encoding)


def send_unflushed(connection: Connection, run: NewRun) -> Piped:
    """Accept one run without an idempotency key, in a transaction of its own, and go on to the disk after it.

    If it has a place its lane is told; the result has the lane's status then.
    """
    kept_apart = _kept_apart(connection, (run,))
    if run.is_plain:
        return piped(connection, TRANSITIONS["insert_plain"], _plain_values(run, kept_apart))
    values = values_of(run, "off", kept_apart)
    if run.place is None:
        return piped(connection, TRANSITIONS["insert_run"], values)
    values["step"] = get_settings().priority_step_seconds
    return piped(connection, TRANSITIONS["insert_and_tell"], values)


def _plain_values(run: NewRun, kept_apart: Mapping[str, bytes]) -> dict[str, Any]:
    tenant_id, fields = run.tenant_id, run.search_fields
    key_id = key_for(tenant_id)
    return {
        "id": run.id, "tenant_id": tenant_id, "event": run.event, "queue": run.queue, "priority": run.priority,
        "sealed_payload": kept_apart.get(run.id) or seal(tenant_id, "payload", run.payload, key_id), "key_id": key_id,
        "search_fields": search_fields(run.event, run.payload) if fields is None else fields,
    }  # fmt: skip


def insert(connection: AnyConnection, runs: Sequence[NewRun], hashes: Mapping[str, bytes]) -> list[RunHandle]:
    """Accept runs in the caller's transaction. `hashes`: payload hash by run id, for those with an idempotency key.

    Raises IdempotencyConflictError when a key was used with another payload; the transaction must be rolled back.
    """
    earlier = reserve_keys(connection, [run for run in runs if run.idempotency_key], hashes)
    insert_fresh(connection, [run for run in runs if run.id not in earlier])
    return [RunHandle(earlier[run.id], deduplicated=True) if run.id in earlier else RunHandle(run.id) for run in runs]


def insert_fresh(connection: AnyConnection, fresh: Sequence[NewRun]) -> None:
    """Insert runs whose idempotency keys, if they have some, are theirs."""
    if len(fresh) == 1:
        insert_one(connection, fresh[0])
    elif len(fresh) >= _COPY_FROM and isinstance(connection, psycopg.Connection):
        _copy(connection, fresh)
    elif fresh:
        insert_many(connection, fresh)


def insert_many(connection: AnyConnection, runs: Sequence[NewRun]) -> None:
    """In the caller's transaction, with a statement for those that have a place in a lane and one for the others."""
    apart = _kept_apart(connection, runs)
    in_lanes = [run for run in runs if run.place is not None]
    if in_lanes:
        lanes, ranks = zip(*(run.place for run in in_lanes if run.place is not None), strict=True)
        values = _columns_of(in_lanes, apart) | {"lane_id": list(lanes), "rank": list(ranks)}
        execute(connection, TRANSITIONS["insert_in_lanes"], values)
    if len(in_lanes) < len(runs):
        others = [run for run in runs if run.place is None]
        execute(connection, TRANSITIONS["insert_runs"], _columns_of(others, apart))


def _columns_of(runs: Sequence[NewRun], kept_apart: Mapping[str, bytes]) -> dict[str, list[Any]]:
    return columns(_NEW_RUN_COLUMNS, (_new_row(run, kept_apart) for run in runs))


def reserve_keys(connection: AnyConnection, runs: Sequence[NewRun], hashes: Mapping[str, bytes]) -> dict[str, str]:
    """Reserve the idempotency keys; returns the earlier run's id for each run whose key was taken.

    Raises IdempotencyConflictError when a key was used with another payload.
    """
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
