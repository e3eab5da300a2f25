"""Ticks of events whose jobs have rules for sends: each run is sent, and the rules say what becomes of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg import errors as pg_errors

from cgk_tasks.flow.accept import UnitOfWork, accept, unit_of_work
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.sql.locks import wait_briefly
from cgk_tasks.sql.postgres import Connection, execute, statements
from cgk_tasks.tenancy import registry

TRANSITIONS = statements("transitions")


class TickRun(NamedTuple):
    """What a tick is to send. payload: JSON text. run_at: None for at once."""

    schedule: str
    run_id: str
    tenant_id: str
    event: str
    payload: str
    queue: str
    priority: int
    scheduled_for: datetime
    key: str
    run_at: datetime | None = None


def are_ruled(event: str) -> bool:
    """Whether rules decide what becomes of the event's sends."""
    rules = ROUTES.current().rules(event)
    return rules is not None and bool(rules.rules)


def send_free(connection: Connection, ticks: Sequence[TickRun]) -> tuple[UnitOfWork, int, list[TickRun]]:
    """Send these in the transaction, after `wait_briefly`. Returns what is to be published after its commit, how many
    of them were accepted, and those that have to wait for somebody's open transaction. Raises psycopg.Error.
    """
    try:
        with connection.transaction():
            return *_send(connection, ticks), []
    except pg_errors.LockNotAvailable:
        wait_briefly(connection, are_many=True)
    unit, sent, locked = UnitOfWork(connection), 0, []
    for tick in ticks:
        try:
            with connection.transaction():
                its, accepted = _send(connection, [tick])
        except pg_errors.LockNotAvailable:
            locked.append(tick)
        else:
            unit.accepted += its.accepted
            unit.woken += its.woken
            sent += accepted
    wait_briefly(connection)
    return unit, sent, locked


def _send(connection: Connection, ticks: Sequence[TickRun]) -> tuple[UnitOfWork, int]:
    registry.learn({tick.tenant_id for tick in ticks})
    runs = []
    for tick in ticks:
        rules = ROUTES.current().rules(tick.event)
        is_merging = rules is not None and rules.merging is not None  # then the rule says when it is due
        options = SendOptions(
            run_at=None if is_merging else tick.run_at,
            idempotency_key=tick.key, queue=tick.queue, priority=tick.priority,
        )  # fmt: skip
        origin = Origin(run_id=tick.run_id, scheduled_for=tick.scheduled_for)
        runs.append(new_run(tick.event, tick.tenant_id, tick.payload, options, origin))
    with unit_of_work(connection) as unit:
        handles = accept(runs)
    sent = [
        (handle.id, tick.schedule)
        for tick, handle in zip(ticks, handles, strict=True)
        if handle.outcome in {"accepted", "merged"}
    ]
    values = {"ids": [run_id for run_id, _ in sent], "schedules": [schedule for _, schedule in sent]}
    execute(connection, TRANSITIONS["note_schedule"], values)
    return unit, len(sent)
