"""The Celery app: `celery -A cgk_tasks worker`, and `from cgk_tasks import app` for an application's own tasks."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from importlib import import_module, reload
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery import Celery, signals

from cgk_tasks import celeryconfig
from cgk_tasks.broker.envelope import TENANT_HEADER
from cgk_tasks.builtin import register_builtin_jobs
from cgk_tasks.celery_tasks import canvas, groups, lazy_groups
from cgk_tasks.celery_tasks.adapter import ignores_result
from cgk_tasks.celery_tasks.arguments import payload_of, said_otherwise
from cgk_tasks.celery_tasks.bootsteps import SupervisorStep
from cgk_tasks.celery_tasks.commands import extend_commands
from cgk_tasks.celery_tasks.consumption import ConsumptionStep
from cgk_tasks.celery_tasks.ping import Ping
from cgk_tasks.celery_tasks.routing import Routing
from cgk_tasks.celery_tasks.task import EventTask, TenantTask, event_task
from cgk_tasks.celery_tasks.times import countdown_of, expiry_of, moment_of
from cgk_tasks.celery_tasks.unhandled import UnhandledTask
from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.flower_command import replace_flower_command
from cgk_tasks.errors import TenantMissingError
from cgk_tasks.events.registry import all_events, event_name, find_event, parse_event
from cgk_tasks.extras import require_extra
from cgk_tasks.flow.accept import Origin, SendOptions, new_run
from cgk_tasks.jobs.registry import hard_limit_seconds, import_job_modules
from cgk_tasks.monitoring.logging import configure_logging
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.worker.pipeline import current_run

if TYPE_CHECKING:
    from celery.result import AsyncResult


_OF_THE_BROKER = ("broker_", "task_default_queue", "task_queues", "task_create_missing_queue_type")


class CgkCelery(Celery[TenantTask]):
    """A Celery app whose tasks are durable, tenant-bound runs.

    `send_task` is the one place through which Celery publishes: `delay`, `apply_async` and every part of a canvas
    come by here, so this is where a message becomes a run and gets its tenant.
    """

    task_cls = TenantTask  # type: ignore[assignment]  # celery-types allows the dotted name only
    control_cls = "cgk_tasks.celery_tasks.control:RunControl"
    amqp_cls = "cgk_tasks.celery_tasks.queues:RunAMQP"

    @cached_property
    def routing(self) -> Routing:
        """Where its tasks are sent."""
        return Routing(self, celeryconfig.task_default_queue)

    def send_task(  # type: ignore[override]  # the rest of Celery's options by keyword
        self,
        name: str,
        args: Any = None,
        kwargs: Any = None,
        countdown: float | None = None,
        eta: datetime | None = None,
        task_id: str | None = None,
        expires: Any = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Send a task by name as a durable run. Options are Celery's; `idempotency_key` and `max_attempts` are ours.

        Raises TenantMissingError when no tenant is in the payload, the headers or the context, and what `send_job`
        raises.
        """
        name = event_name(name)
        running = current_run.get()
        if running is not None and task_id and run_id_of(task_id) == running.id and options.get("retries"):
            # `self.retry()` publishes the same id again; here the runner puts the run back instead.
            return self.AsyncResult(task_id)
        routing = self.routing.current()
        task = self.tasks.get(name)
        if task is not None and options.get("task_type") is None:
            options = _with_own_options(task, options)
            expires = options.pop("expires", None) if expires is None else expires
        countdown = countdown_of(countdown) if countdown else None
        eta = moment_of("eta", eta) if eta else None
        expires = expiry_of(expires)
        if task is not None and not getattr(task, "durable", False):
            headers = self._headers_with_tenant(name, kwargs, options.pop("headers", None))
            groups.write_sizes()
            return super().send_task(
                name, args, kwargs, countdown=countdown, eta=eta, task_id=task_id, expires=expires,
                headers=headers, **options,
            )  # fmt: skip
        is_event = find_event(name) is not None
        queue, priority = routing.queue_and_priority(name, args, kwargs, options, is_event=is_event)
        send_options = _send_options(countdown, eta, expires, queue, priority, options)
        if is_event:
            event = parse_event(name, dict(kwargs or {}))
            tenant_id, payload = event.tenant_id, event.to_json().decode()
        else:
            tenant_id = self._headers_with_tenant(name, kwargs, options.get("headers"))[TENANT_HEADER]
            payload = payload_of(
                args or (), kwargs or {}, ignore_result=said_otherwise(task, options.get("ignore_result"))
            )
        options = {**options, "headers": _without_tenant(options.get("headers")), "task_id": task_id}
        origin = Origin(run_id=run_id_of(task_id) if task_id else None, canvas=canvas.kept(self._lineage(options)))
        handle = groups.send(new_run(name, tenant_id, payload, send_options, origin))
        result = self.AsyncResult(handle.id if handle.deduplicated or not task_id else task_id)
        if not is_event and ignores_result(task, options.get("ignore_result")):
            result.ignored = True  # `get()` gives None at once
        parent = self.current_worker_task
        if options.get("add_to_parent", True) and parent is not None:
            parent.add_trail(result)
        return result

    @contextmanager
    def producer_or_acquire(self, producer: Any = None) -> Iterator[Any]:  # type: ignore[override]
        """Celery opens this around the members of a group, which are accepted all or none."""
        with groups.sent_together(), super().producer_or_acquire(producer) as acquired:
            yield acquired

    def _headers_with_tenant(self, name: str, kwargs: Any, headers: Mapping[str, Any] | None) -> dict[str, Any]:
        """The headers with the tenant in them: given, of the payload, or of the context."""
        here = find_current_tenant()
        tenant_id = (headers or {}).get(TENANT_HEADER)
        if tenant_id is None and find_event(name) is not None:
            tenant_id = (kwargs or {}).get("tenantId") or (kwargs or {}).get("tenant_id")
        if tenant_id is None and here is not None:
            tenant_id = here.id
        if tenant_id is None and self.current_worker_task is not None:
            # What follows a `durable=False` task is sent after its tenant's context has ended.
            tenant_id = (self.current_worker_task.request.headers or {}).get(TENANT_HEADER)
        if tenant_id is None:
            raise TenantMissingError(f"The task {name}")
        return {**(headers or {}), TENANT_HEADER: tenant_id}

    def _lineage(self, options: dict[str, Any]) -> dict[str, Any]:
        """Root and parent of a task that is sent by another one."""
        parent = self.current_worker_task
        if parent is not None and parent.request.id:
            options = {
                **options,
                "root_id": options.get("root_id") or parent.request.root_id or parent.request.id,
                "parent_id": options.get("parent_id") or parent.request.id,
            }
        return options


def _without_tenant(headers: Mapping[str, Any] | None) -> dict[str, Any]:
    return {key: value for key, value in (headers or {}).items() if key != TENANT_HEADER}


def _with_own_options(task: Any, options: dict[str, Any]) -> dict[str, Any]:
    """With those that the task itself has: `apply_async` brings them, `app.send_task` does not."""
    own = task._get_exec_options()  # noqa: SLF001 - Celery's own send_task asks so
    return {**{name: value for name, value in own.items() if value is not None}, **options}


def _send_options(
    countdown: float | None,
    eta: datetime | None,
    expires: float | datetime | None,
    queue: str | None,
    priority: int | None,
    options: dict[str, Any],
) -> SendOptions:
    return SendOptions(
        delay=countdown,
        run_at=None if countdown else eta,  # Celery lets countdown win
        idempotency_key=options.pop("idempotency_key", None),
        max_attempts=options.pop("max_attempts", None),
        queue=queue,
        priority=priority,
        expires=expires,
    )


def _load_settings(celery: CgkCelery) -> None:
    """The package's settings, then those of the application's own celeryconfig.py, if the working folder has one."""
    celery.config_from_object("cgk_tasks.celeryconfig")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    if importlib.util.find_spec("celeryconfig") is not None:
        own = import_module("celeryconfig")
        celery.conf.update({key: value for key, value in vars(own).items() if key.islower() and key[0] != "_"})


def follow_settings(celery: CgkCelery) -> None:
    """Let the app have the broker and the queues of the settings as they are now: tests change them."""
    reload(celeryconfig)
    celery.conf.update({name: value for name, value in vars(celeryconfig).items() if name.startswith(_OF_THE_BROKER)})
    celery.amqp.__dict__.pop("queues", None)
    celery.__dict__.pop("routing", None)


def create_app(name: str = "cgk_tasks") -> CgkCelery:
    """A Celery app with a task for every event. `cgk_tasks.app` is made by this."""
    celery = CgkCelery(name, set_as_current=True)
    _load_settings(celery)
    celery.steps["worker"].add(SupervisorStep)
    celery.steps["consumer"].add(ConsumptionStep)
    if get_settings().metrics_served_on:
        require_extra("worker", "CGK_METRICS_ADDRESS")
        from cgk_tasks.monitoring.worker_metrics import MetricsStep

        celery.steps["worker"].add(MetricsStep)
    if get_settings().alerts:
        from cgk_tasks.monitoring.alert_step import AlertStep

        celery.steps["worker"].add(AlertStep)
    for event in all_events():
        celery.register_task(event_task(event)())
    celery.register_task(UnhandledTask())
    celery.register_task(Ping())
    return celery


app = create_app()
lazy_groups.install()
extend_commands()
replace_flower_command()


@signals.import_modules.connect
def _import_jobs(**_arguments: Any) -> None:
    """A worker imports the application's job modules, and learns the events that those define."""
    import_job_modules()
    register_builtin_jobs()
    register_application_events()
    for task in app.tasks.values():
        if isinstance(task, EventTask):
            task.time_limit = math.ceil(hard_limit_seconds(task.name))


def register_application_events() -> None:
    """Give every event that was defined since the app was made its task."""
    for event in all_events():
        if event.event_name not in app.tasks:
            app.register_task(event_task(event)())


@signals.setup_logging.connect
def _set_up_logging(logfile: str | None = None, **_arguments: Any) -> None:
    """`worker --logfile`, which is where `celery multi` and `--detach` have their logs."""
    configure_logging(logfile)


__all__ = ["CgkCelery", "app", "create_app", "register_application_events"]
