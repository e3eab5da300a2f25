"""Replay: a closed run once more, as a new run that names the old one."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from cgk_tasks.errors import RunStateError, UnknownRunError
from cgk_tasks.flow.accept import UnitOfWork, accept, current_unit, unit_of_work
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.runs import steps, store
from cgk_tasks.runs.models import CLOSED_STATES, NewRun, RunHandle
from cgk_tasks.sql.postgres import AnyConnection, Row, explain, fetch, statements, transaction
from cgk_tasks.tenancy.audit import note

SQL = statements("runs")


def closed_run(run_id: str, action: str = "retry") -> Row:
    """The record of a closed run. Raises UnknownRunError, and RunStateError if it is still open."""
    row = store.find(run_id)
    if row is None:
        raise UnknownRunError(run_id)
    if row["state"] not in CLOSED_STATES:
        raise RunStateError(run_id, row["state"], action)
    return row


def replay_of(row: Row, payload: str | None = None) -> NewRun:
    """The new run of a closed one: same event, tenant, queue, attempts and canvas; a child's has its one job.

    payload: JSON text that takes the place of the old one's. Raises what `new_run` raises.
    """
    options = SendOptions(max_attempts=row["max_attempts"], queue=row["queue"], priority=row["priority"])
    origin = Origin(
        job=row["job"] if row["parent_id"] else None, replay_of=row["id"], canvas=row["canvas"],
        scheduled_for=row["scheduled_for"],
    )  # fmt: skip
    return new_run(row["event"], row["tenant_id"], payload or row["payload"], options, origin)


def replay(run_id: str, payload: str | None = None, from_step: str | None = None) -> RunHandle:
    """Run a closed run again. from_step: with what its workflow remembers of the steps before that one.

    Raises UnknownRunError, RunStateError, UnknownTenantError, InvalidOptionError for an unknown step, StoreError.
    """
    again = replay_of(closed_run(run_id), payload)
    unit = current_unit()
    if unit is not None:  # in the transaction of whoever has one open
        return _noted(run_id, again, unit, from_step)
    try:
        with transaction() as connection, unit_of_work(connection) as unit:
            handle = _noted(run_id, again, unit, from_step)
    except psycopg.Error as exc:
        raise explain(exc) from exc
    unit.publish()
    return handle


def lock_free(connection: AnyConnection, ids: Sequence[str]) -> set[str]:
    """Keep others from running these closed runs again until the transaction ends. Returns those of them that nobody
    else is running again at this moment; what became of those that somebody did before is for the caller to look up.
    """
    return {row["id"] for row in fetch(connection, SQL["try_lock_replays"], {"ids": list(ids)})}


def _noted(run_id: str, again: NewRun, unit: UnitOfWork, from_step: str | None) -> RunHandle:
    fetch(unit.connection, SQL["lock_replay"], {"id": again.replay_of})
    handle = accept([again])[0]
    if from_step is not None:
        steps.copy_before(unit.connection, run_id, from_step, handle.id)
    note(unit.connection, "retry run", run_id, tenant_id=again.tenant_id, message=f"new run {handle.id}")
    return handle
