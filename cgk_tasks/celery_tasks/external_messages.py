"""Messages of other producers: any Celery client's `send_task("order.created", kwargs={...})` becomes a run."""

from __future__ import annotations

from typing import Any

from celery import Task
from celery.app.task import Context
from psycopg import Rollback

from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.celery_tasks.arguments import payload_of
from cgk_tasks.celery_tasks.canvas import kept
from cgk_tasks.errors import TenantMissingError
from cgk_tasks.events.registry import parse_event
from cgk_tasks.flow.accept import Origin, SendOptions, new_run
from cgk_tasks.runs import store, tracing
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.sql.postgres import transaction


def adopt(task: Task[Any, Any], request: Context) -> list[str]:
    """Accept a message that carries its payload as a run under the message's id, and return that id.

    A message that comes twice makes one run. Raises what a bad payload or tenant raises, and then nothing is stored.
    """
    run_id = run_id_of(str(request.id))
    origin = Origin(run_id=run_id, canvas=kept(request.as_execution_options()), trace=tracing.received(request.headers))
    name = str(task.name)
    if getattr(task, "is_adapted", False):
        tenant_id = (request.headers or {}).get(TENANT_HEADER)
        if tenant_id is None:
            raise TenantMissingError(f"The task {name}")
        payload = payload_of(request.args or (), request.kwargs or {})
    else:
        event = parse_event(name, request.kwargs or {})
        tenant_id, payload = event.tenant_id, event.to_json().decode()
    run = new_run(name, tenant_id, payload, SendOptions(expires=None), origin)
    with transaction() as connection:
        store.insert(connection, [run], {})
        # Looked up after the insert, not before it: the run of an earlier message may close in between, and then its
        # row no longer stands in the way of this one. What closed before the insert is seen here.
        if store.already_closed(connection, [run_id]):
            raise Rollback
    return [run_id]
