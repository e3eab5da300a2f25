"""A send of Celery's API becomes a run: its tenant, its content, its place in a canvas."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from cgk_tasks.broker import answers
from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.celery_tasks import canvas, groups, publish_signals, revoked_sends
from cgk_tasks.celery_tasks.adapter import ignores_result
from cgk_tasks.celery_tasks.arguments import payload_of, said_otherwise
from cgk_tasks.celery_tasks.limits import without_own_limits
from cgk_tasks.errors import InvalidOptionError, TenantMissingError
from cgk_tasks.events.registry import find_event, parse_event
from cgk_tasks.flow.accept import current_unit
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.flow.quota import counted
from cgk_tasks.runs.models import NewRun, run_id_of
from cgk_tasks.tenancy.context import find_current_tenant

if TYPE_CHECKING:
    from celery import Celery
    from celery.result import AsyncResult

    from cgk_tasks.celery_tasks.routing import Routing


class Times(NamedTuple):
    """When a run may begin, and until when."""

    countdown: float | None
    eta: datetime | None
    expires: float | datetime | None


def send_run(
    app: Celery[Any],
    routing: Routing,
    name: str,
    args: Any,
    kwargs: Any,
    times: Times,
    task_id: str | None,
    options: dict[str, Any],
    session: Any,
) -> AsyncResult[Any]:
    """Send an event or a task as a run. options: of the call and the task, with those that are ours."""
    task = app.tasks.get(name)
    is_event = find_event(name) is not None
    queue, priority, own_priority = routing.queue_and_priority(name, args, kwargs, options, is_event=is_event)
    publication = None
    if publish_signals.are_heard():
        headers = headers_with_tenant(name, kwargs, options.get("headers"))
        seen = {**options, "task_id": task_id, "queue": queue, "headers": headers}
        publication = publish_signals.announce(app, name, args, kwargs, times._asdict(), seen)
        task_id, args, kwargs, options["headers"], _ = publication
    send_options = SendOptions(
        delay=times.countdown,
        run_at=None if times.countdown else times.eta,  # Celery lets countdown win
        idempotency_key=options.pop("idempotency_key", None),
        max_attempts=options.pop("max_attempts", None),
        queue=queue,
        priority=priority,
        expires=times.expires,
    )
    wanted = options.get("ignore_result")
    if is_event:
        event = parse_event(name, dict(kwargs or {}))
        tenant_id, payload = event.tenant_id, event.to_json().decode()
    else:
        tenant_id = headers_with_tenant(name, kwargs, options.get("headers"))[TENANT_HEADER]
        payload = payload_of(args or (), kwargs or {}, ignore_result=said_otherwise(task, wanted))
    run = new_run(name, tenant_id, payload, send_options, _origin(app, task, task_id, options, own_priority))
    sent_id, is_made = _send(app, run, task_id, session)
    result = app.AsyncResult(sent_id)
    if not is_made or (not is_event and ignores_result(task, wanted)):
        result.ignored = True  # `get()` gives None at once
    parent = app.current_worker_task
    if options.get("add_to_parent", True) and parent is not None:
        parent.add_trail(result)
    if publication is not None:
        publication.done()
    return result


def _send(app: Celery[Any], run: NewRun, task_id: str | None, session: Any) -> tuple[str, bool]:
    """Send a run, unless it was revoked before. Returns the task's id, and whether there is a run of it: a RateLimit of
    its job may have skipped it.
    """
    may_be_revoked = task_id or (run.canvas is not None and '"stamps"' in run.canvas)
    if may_be_revoked and not groups.are_sent_together() and not revoked_sends.without_revoked(app, [run]):
        return task_id or run.id, True
    unit = current_unit()
    if unit is not None and not unit.of_application:  # what follows in a canvas
        handle = groups.send(run, session)
    else:
        with counted([run]) as sends, answers.foreseen(run.event, run.id):
            handle = groups.send(run, session)
            sends.made([run], [handle])
    if handle.id != run.id:
        return handle.id, True
    return task_id or run.id, handle.outcome != "skipped"


def _origin(
    app: Celery[Any], task: Any, task_id: str | None, options: dict[str, Any], own_priority: int | None
) -> Origin:
    headers = {key: value for key, value in (options.get("headers") or {}).items() if key != TENANT_HEADER}
    options = without_own_limits(task, {**options, "headers": headers, "task_id": task_id})
    parent = app.current_worker_task
    if parent is not None and parent.request.id:  # it is sent by another task
        options["root_id"] = options.get("root_id") or parent.request.root_id or parent.request.id
        options["parent_id"] = options.get("parent_id") or parent.request.id
    return Origin(run_id=run_id_of(task_id) if task_id else None, canvas=canvas.kept(options, own_priority))


def headers_with_tenant(name: str, kwargs: Any, headers: Mapping[str, Any] | None) -> dict[str, Any]:
    """The headers with the tenant in them: given, of the payload, or of the context. Raises TenantMissingError."""
    here = find_current_tenant()
    tenant_id = (headers or {}).get(TENANT_HEADER)
    if tenant_id is None and find_event(name) is not None:
        tenant_id = (kwargs or {}).get("tenantId") or (kwargs or {}).get("tenant_id")
    if tenant_id is None and here is not None:
        tenant_id = here.id
    if tenant_id is None and isinstance(kwargs, Mapping):
        # The last resort, for it is the function's own argument: in the context of a tenant it may mean anything.
        tenant_id = kwargs.get("tenant_id") or kwargs.get("tenantId")
    if tenant_id is None:
        raise TenantMissingError(f"The task {name}")
    return {**(headers or {}), TENANT_HEADER: tenant_id}


def session_of(options: dict[str, Any]) -> Any:
    """The option `session`, taken out of the others. Raises InvalidOptionError for one that cannot be used here."""
    session = options.pop("session", None)
    if hasattr(session, "run_sync"):
        raise InvalidOptionError(
            "session",
            "is an AsyncSession, and apply_async is no coroutine.",
            hint="Write: await session.run_sync(lambda own: task.apply_async(..., session=own))",
        )
    return session
