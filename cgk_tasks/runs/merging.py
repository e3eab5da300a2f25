"""Runs that a send makes only if there is none yet, or that it becomes part of: for rules that decide about sends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cgk_tasks.runs.insertion import values_of
from cgk_tasks.runs.models import NewRun, new_run_id
from cgk_tasks.runs.sealing import key_for, open_sealed, seal
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql.postgres import AnyConnection, execute, fetch, statements

SQL, TRANSITIONS = statements("merging"), statements("transitions")


class Collected(NamedTuple):
    """The run that takes in sends. events: how many it would have with all that were brought, more than it takes
    perhaps.
    """

    run_id: str
    events: int


def insert_single(connection: AnyConnection, run: NewRun) -> str | None:
    """Insert a run, unless an open one has its `single_key`. Returns the id of the one that has it then; None if that
    has ended in this moment, and it is to be tried again.
    """
    lane, rank = run.place or (None, None)
    values = {**values_of(run), "lane_id": lane, "rank": rank, "single_key": run.single_key}
    return run.id if execute(connection, TRANSITIONS["insert_single"], values) else find_single(connection, run)


def find_single(connection: AnyConnection, run: NewRun) -> str | None:
    """The id of the open run that has the `single_key` of this one; its own if it is there already."""
    values = {"id": run.id, "tenant_id": run.tenant_id, "event": run.event, "single_key": run.single_key}
    rows = fetch(connection, TRANSITIONS["find_single"], values)
    return rows[0]["id"] if rows else None


def leave_single_key(connection: AnyConnection, run_id: str) -> None:
    """Let another run have the key of this one, which is to be cancelled."""
    execute(connection, TRANSITIONS["leave_single_key"], {"id": run_id})


def debounce(connection: AnyConnection, run: NewRun, max_wait_seconds: float | None) -> str:
    """Insert a run that waits for further sends, or have the one that waits already become it. Returns its id."""
    values = {**values_of(run), "merge_key": run.merge_key, "max_wait": max_wait_seconds}
    found: str = fetch(connection, TRANSITIONS["debounce"], values)[0]["id"]
    return found


def collect(connection: AnyConnection, run: NewRun, events: int, size: int) -> Collected:
    """Insert a run that waits for further sends, of which it has so many; or have the one that waits already expect
    them, and hold its row until the transaction ends.
    """
    values = {**values_of(run), "merge_key": run.merge_key, "events": events, "size": size}
    row = fetch(connection, TRANSITIONS["collect"], values)[0]
    return Collected(row["id"], row["merged"])


def add_events(connection: AnyConnection, run_id: str, events: Sequence[NewRun]) -> None:
    """Keep the payloads of these sends for a run that takes them in, in the transaction that has collected them."""
    tenant_id = events[0].tenant_id
    key_id = key_for(tenant_id)
    values = {
        "run_id": run_id, "tenant_id": tenant_id, "ids": [new_run_id() for _ in events],
        "key_id": [key_id] * len(events),
        "sealed_payload": [seal(tenant_id, "mail", event.payload, key_id) for event in events],
    }  # fmt: skip
    execute(connection, SQL["add_events"], values)


def added_events(connection: AnyConnection, run_id: str, tenant_id: str) -> list[str]:
    """The payloads that were added to a run and are not part of its own yet, as JSON texts in their order."""
    rows = fetch(connection, SQL["events"], {"id": run_id})
    return [open_sealed(tenant_id, "mail", row["sealed_payload"], row["key_id"]) or "null" for row in rows]


def take_in(connection: AnyConnection, worker_id: str, run: Claimed, payload: str) -> bool:
    """Make what was added to a run a part of its payload, in the caller's transaction. False if the attempt no longer
    owns it.
    """
    sealed = seal(run.tenant_id, "payload", payload, run.key_id)
    values = {"id": run.id, "attempt": run.attempt, "worker_id": worker_id, "sealed_payload": sealed}
    if not fetch(connection, TRANSITIONS["take_in"], values):
        return False
    execute(connection, SQL["take_events"], {"id": run.id})
    return True


def copy_events(connection: AnyConnection, run_id: str, again: str) -> None:
    """Give a replay what was added to the run that it repeats."""
    execute(connection, SQL["copy_events"], {"id": run_id, "again": again})


def move_keys(connection: AnyConnection, moved: Sequence[tuple[NewRun, str]]) -> None:
    """Have the idempotency keys of these sends lead to the runs that they became part of."""
    runs = [run for run, _ in moved]
    execute(connection, SQL["move_keys"], _keys(runs) | {"to_run": [to_run for _, to_run in moved]})


def free_keys(connection: AnyConnection, runs: Sequence[NewRun]) -> None:
    """Forget the idempotency keys of sends that were not accepted."""
    execute(connection, SQL["free_keys"], _keys(runs))


def _keys(runs: Sequence[NewRun]) -> dict[str, list[str | None]]:
    return {
        "tenant_id": [run.tenant_id for run in runs],
        "event": [run.event for run in runs],
        "key": [run.idempotency_key for run in runs],
    }
