"""How runs leave a worker's hands on record: closed, or put back to go on later; and the parents that this closes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from cgk_tasks.runs.codec import result_for_others
from cgk_tasks.runs.invoked import bring_ends
from cgk_tasks.runs.models import State
from cgk_tasks.runs.plain_columns import error_fingerprint
from cgk_tasks.runs.sealing import open_error, opened, seal
from cgk_tasks.sql.postgres import (
    AnyConnection,
    Row,
    execute,
    fetch,
    fetch_as,
    fetch_directly,
    statements,
    uuid_array,
)

TRANSITIONS = statements("transitions")


class Closing(NamedTuple):
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
    took: float | None = None
    """Seconds that the attempt ran, which began later than its claim if runs of its packet came before it."""


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


def columns(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """The rows as the arrays that a statement for many takes."""
    return {name: list(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


_CLOSING = ("id", "attempt", "job", "state", "result", "error", "error_code", "fingerprint", "took")
_PUT_BACK = (
    "id", "attempt", "state", "refund", "delay_seconds", "error", "error_code", "payload", "job", "deferral"
)  # fmt: skip


def _closing_row(one: Closing) -> tuple[Any, ...]:
    run_id, tenant_id, attempt, state, job, result, error, error_code, key_id, took = one
    fingerprint = fingerprint_of(error_code, error) if state == "failed" else None
    return (
        run_id, attempt, job, state, seal(tenant_id, "result", result, key_id),
        None if error is None else seal(tenant_id, "error", error, key_id), error_code, fingerprint, took,
    )  # fmt: skip


def fingerprint_of(error_code: str | None, error: str | None) -> str:
    """Of a failed run's last error, which is JSON text."""
    return error_fingerprint(error_code, None if error is None else json.loads(error))


def _put_back_row(one: PutBack) -> tuple[Any, ...]:
    tenant_id, key_id = one.tenant_id, one.key_id
    return (
        one.id, one.attempt, one.state, one.refund, float(one.delay_seconds),
        seal(tenant_id, "error", one.error, key_id), one.error_code,
        seal(tenant_id, "payload", one.payload, key_id), one.job, seal(tenant_id, "deferral", one.deferral, key_id),
    )  # fmt: skip


def finish(
    connection: AnyConnection, worker_id: str, closings: Sequence[Closing], *, flush: bool = False
) -> list[Closed]:
    """Close the runs that their attempts still own, and their parents when they were the last children.

    flush: wait for the disk. True when the caller's own writes commit in the same transaction.
    """
    if len(closings) == 1:
        values = values_of_one(worker_id, closings[0], flush=flush)
        closed = fetch_directly(connection, TRANSITIONS["finish_one"], values, _closed)
    else:
        closed = [
            run
            for alike in _grouped(closings, _attempt)
            for run in fetch_as(connection, TRANSITIONS["finish"], _for_finish(worker_id, alike, flush=flush), _closed)
        ]
    if any(run.parent_id for run in closed):
        closed += close_parents(connection, closed)
    return closed


def values_of_one(worker_id: str, closing: Closing, *, flush: bool = False) -> dict[str, Any]:
    """For the statements finish_one and finish_one_or_fail."""
    given = dict(zip(_CLOSING, _closing_row(closing), strict=True))
    return {"worker_id": worker_id, "durability": _durability(flush=flush), **given}


def finish_apart(
    connection: AnyConnection, worker_id: str, closings: Sequence[Closing], *, flush: bool = False
) -> None:
    """Like `finish`, for runs that are no children, and a caller that does not ask which of them were still its own.

    Most packets are runs of one job that have all completed: no text of theirs is compared or sent but the results.
    """
    for alike in _grouped(closings, _way):
        if len(alike) == 1 or not _is_completed(alike[0]):
            finish(connection, worker_id, alike, flush=flush)
            continue
        execute(connection, TRANSITIONS["finish_completed"], values_of_completed(worker_id, alike, flush=flush))


def values_of_completed(worker_id: str, closings: Sequence[Closing], *, flush: bool) -> dict[str, Any]:
    """What `finish_completed` wants to know of runs that one job has completed at the same attempt."""
    return {
        "worker_id": worker_id,
        "durability": _durability(flush=flush),
        "attempt": closings[0].attempt,
        "job": closings[0].job,
        "id": uuid_array([one.id for one in closings]),
        "result": [seal(one.tenant_id, "result", one.result, one.key_id) for one in closings],
        "took": [one.took for one in closings],
    }


def _for_finish(worker_id: str, closings: Sequence[Closing], *, flush: bool) -> dict[str, Any]:
    given: dict[str, Any] = columns(_CLOSING, map(_closing_row, closings))
    given |= {"id": uuid_array([one.id for one in closings]), "attempt": closings[0].attempt}
    return {"worker_id": worker_id, "durability": _durability(flush=flush), **given}


def _durability(*, flush: bool) -> str:
    return "on" if flush else "off"


def _is_completed(one: Closing) -> bool:
    return one.state == "completed" and one.error is None and one.error_code is None


_attempt = attrgetter("attempt")


def _way(one: Closing) -> tuple[int, bool, str | None]:
    """How it ended: the same for those that one statement closes."""
    completed = _is_completed(one)
    return one.attempt, completed, one.job if completed else None


def _grouped(closings: Sequence[Closing], key: Callable[[Closing], Any]) -> list[list[Closing]]:
    """The closings with the same key together; mostly those of a packet all have it."""
    groups: dict[Any, list[Closing]] = {}
    for one in closings:
        groups.setdefault(key(one), []).append(one)
    return list(groups.values())


def _closed(columns: Sequence[str]) -> Callable[[tuple[Any, ...]], Closed]:
    wanted = itemgetter(*map(columns.index, ("id", "parent_id", "state")))
    return lambda row: Closed(*wanted(row))


def close_parents(connection: AnyConnection, closed: Sequence[Closed]) -> list[Closed]:
    """Count closed children off their parents, and close the parents that have none left, up to the root. Ends of runs
    that workflows have invoked are brought to these.
    """
    all_closed: list[Closed] = []
    while parents := [run.parent_id for run in closed if run.parent_id]:
        rows = fetch(connection, TRANSITIONS["count_down_children"], {"parents": parents})
        counted = {row["id"] for row in rows}
        if invoked := [run.id for run in closed if run.parent_id and run.parent_id not in counted]:
            bring_ends(connection, invoked)
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
        f"{json.dumps(child['job'] or '')} : {result_for_others(opened(child)['result'])}" for child in children
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
    values: dict[str, Any] = {"worker_id": worker_id, **columns(_PUT_BACK, map(_put_back_row, runs))}
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
