"""Messages of other producers: any Celery client's `send_task("order.created", kwargs={...})` becomes a run.

They carry their payload and their tenant themselves, so whoever can write to the broker can make them. Only those that
CGK_EXTERNAL_EVENTS names are taken, and only if it names what follows them too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery import Celery, Task
from celery.app.task import Context
from psycopg import Rollback

from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.broker.unreadable import FOLLOWS
from cgk_tasks.celery_tasks import revocations
from cgk_tasks.celery_tasks.arguments import payload_of, said_otherwise
from cgk_tasks.celery_tasks.canvas import follow_closed, kept
from cgk_tasks.config import get_settings
from cgk_tasks.errors import TenantMissingError
from cgk_tasks.events.registry import parse_event
from cgk_tasks.flow.accept import unit_of_work
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.runs import insertion, store, tracing
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.sql.postgres import transaction

_STRUCTURES = frozenset({"celery.chain", "celery.chord", "celery.group"})
"""They start nothing but their parts, which are looked at."""

_LONGEST_NAME = 100


def refused(app: Celery[Any], headers: Mapping[str, Any], payload: Any) -> str | None:
    """What of a message that is no packet may not be started by other producers: an event's or a task's name.

    Tasks with `durable=False` have no other messages than those that carry their payload, so they are always taken.
    """
    allowed = get_settings().external_events
    if "*" in allowed:
        return None
    body = payload if isinstance(payload, dict) else payload[2] or {}
    name = headers["task"] if "task" in headers else body.get("task")
    following = [part.get(key) for part in (headers, body) for key in FOLLOWS]
    for one in [name, *_names(following)]:
        task = app.tasks.get(one) if isinstance(one, str) else None
        is_open = one in allowed or (task is not None and not getattr(task, "durable", False))
        if not is_open:
            return str(one)[:_LONGEST_NAME]
    return None


def _names(signatures: object) -> Iterator[Any]:
    """The tasks that these signatures start, at any depth: parts of a canvas are in its options and arguments."""
    waiting = [signatures]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            if "task" in one and not isinstance(one["task"], dict) and one["task"] not in _STRUCTURES:
                yield one["task"]
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one


def adopt(task: Task[Any, Any], request: Context) -> list[str]:
    """Accept a message that carries its payload as a run under the message's id, and return that id.

    A message that comes twice makes one run. One that was revoked before, by its tenant or by code without one, makes a
    cancelled run. Raises what a bad payload or tenant raises, and then nothing is stored.
    """
    run_id = run_id_of(str(request.id))
    origin = Origin(run_id=run_id, canvas=kept(request.as_execution_options()), trace=tracing.received(request.headers))
    name = str(task.name)
    if getattr(task, "is_adapted", False):
        tenant_id = (request.headers or {}).get(TENANT_HEADER)
        if tenant_id is None:
            raise TenantMissingError(f"The task {name}")
        said = said_otherwise(task, vars(request).get("ignore_result"))
        payload = payload_of(request.args or (), request.kwargs or {}, ignore_result=said)
    else:
        event = parse_event(name, request.kwargs or {})
        tenant_id, payload = event.tenant_id, event.to_json().decode()
    run = new_run(name, tenant_id, payload, SendOptions(expires=None), origin)
    with transaction() as connection, unit_of_work(connection) as unit:
        is_made = insertion.insert_one(connection, run) > 0
        # Looked up after the insert, not before it: the run of an earlier message may close in between, and then its
        # row no longer stands in the way of this one. What closed before the insert is seen here.
        if store.already_closed(connection, [run_id]):
            raise Rollback
        if is_made and revocations.revoked_among([run]):
            follow_closed(store.cancel(run_id, connection), task.app)
    unit.publish()
    return [run_id]
