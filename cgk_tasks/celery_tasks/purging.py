"""Celery's `purge`: what waits in queues is cancelled on record, and then the broker's messages are removed."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import nullcontext, suppress
from typing import Any, Final

from celery import Celery

from cgk_tasks.celery_tasks import canvas
from cgk_tasks.flow.accept import unit_of_work
from cgk_tasks.runs import store
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.visibility import sees_all

_BATCH: Final = 5000
"""So many runs are cancelled in one transaction."""


def purge(app: Celery[Any], queues: Collection[str], connection: Any = None) -> int:
    """Cancel the runs that wait in these queues: sent, for later, held, or for another attempt. Returns how many.

    Inside a tenant's context these are the tenant's own, and the messages stay; elsewhere those of `durable=False`
    tasks are gone as well. What runs goes on.
    """
    cancelled = _cancel(app, sorted(queues))
    if sees_all():
        with nullcontext(connection) if connection is not None else app.connection_for_write() as used:
            for queue in queues:
                _remove_messages(used, queue)
    return cancelled


def _cancel(app: Celery[Any], queues: list[str]) -> int:
    here = find_current_tenant()
    tenant_id = None if here is None or sees_all() else here.id
    before, cancelled = store.database_time(), 0
    while True:
        with postgres.transaction() as connection, unit_of_work(connection) as unit:
            closed = store.cancel_waiting(connection, queues, tenant_id, before, _BATCH)
            canvas.follow_closed(closed, app)
            if closed:
                note(connection, "purge queues", ", ".join(queues), tenant_id=tenant_id, affected=len(closed))
        unit.publish()
        cancelled += len(closed)
        if not closed:
            return cancelled


def _remove_messages(connection: Any, queue: str) -> None:
    with suppress(connection.channel_errors):  # RabbitMQ has no queue that nobody has declared yet
        connection.default_channel.queue_purge(queue)
