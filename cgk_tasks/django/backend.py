"""`TasksBackend`: what Django enqueues becomes a durable run of a tenant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.core import checks
from django.utils import timezone

from cgk_tasks.client import JobClient, get_job_client
from cgk_tasks.config import get_settings
from cgk_tasks.django import job
from cgk_tasks.django.framework import BaseTaskBackend, TaskResultDoesNotExist, signals
from cgk_tasks.django.options import Options
from cgk_tasks.django.results import change, new_result, result_of
from cgk_tasks.django.transactions import send
from cgk_tasks.errors import CgkTasksError, ConfigurationError, UnknownRunError
from cgk_tasks.events.django_task import DJANGO_TASK, DjangoTask
from cgk_tasks.events.registry import parse_event
from cgk_tasks.flow.new_run import Origin, SendOptions, new_run
from cgk_tasks.runs.models import DEFAULT_PRIORITY, NewRun, new_run_id
from cgk_tasks.runs.plain_columns import search_fields_of

_DEFAULT_QUEUE: Final = "default"
"""In Django. It means the usual queue: CGK_DEFAULT_QUEUE."""


class TasksBackend(BaseTaskBackend):  # type: ignore[misc]  # Django has no types
    """Tasks of Django as durable runs: `TASKS = {"default": {"BACKEND": "cgk_tasks.django.TasksBackend"}}`.

    Each run belongs to a tenant: that of the context in which it is enqueued, or whom the function of the option TENANT
    names. In a transaction on the database of CGK_DATABASE_URL it is enqueued with the commit, and never if there is
    none. `using(queue_name=..., priority=..., run_after=...)` is the run's queue, priority and time. A task that raises
    is tried again, three times in all or as the option MAX_ATTEMPTS says.
    """

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: Mapping[str, Any]) -> None:
        super().__init__(alias, params)
        self._options = Options.of(alias, self.options)

    def enqueue(self, task: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        """Send a run of the task. Raises InvalidTask, TypeError for arguments that are not JSON, and what `send_job`
        raises: TenantMissingError, UnknownTenantError, PayloadTooLargeError, StoreError and so on.
        """
        self.validate_task(task)
        _client()
        result = new_result(task, new_run_id(), args, kwargs, self.alias)
        run = self._run_of(result)

        def sent() -> None:
            change(result, enqueued_at=timezone.now())
            signals.task_enqueued.send(sender=type(self), task_result=result)

        send(run, self._options.database, sent)
        return result

    def get_result(self, result_id: str) -> Any:
        """A task as it stands on record. Raises TaskResultDoesNotExist, also for one of another tenant, StoreError."""
        client = _client()
        try:
            run = client.get_run_status(result_id)
        except UnknownRunError as exc:
            raise TaskResultDoesNotExist(result_id) from exc
        if run.event != DJANGO_TASK:
            raise TaskResultDoesNotExist(result_id)
        content = parse_event(DJANGO_TASK, run.payload)
        assert isinstance(content, DjangoTask)
        return result_of(run, content)

    def check(self, **_options: Any) -> Iterator[Any]:
        """What `manage.py check` says of the settings."""
        try:
            _client()
            get_settings().database  # noqa: B018 - raises when there is none
            get_settings().broker  # noqa: B018
        except CgkTasksError as exc:
            yield checks.Error(exc.text, hint=exc.hint, obj=f"TASKS[{self.alias!r}]", id="cgk_tasks.E001")
        if self._options.database not in settings.DATABASES:
            yield checks.Error(
                f"Its option DATABASE is {self._options.database!r}, which is not in DATABASES.",
                obj=f"TASKS[{self.alias!r}]", id="cgk_tasks.E002",
            )  # fmt: skip

    def _run_of(self, result: Any) -> NewRun:
        task = result.task
        run_after = _aware(task.run_after)
        tenant_id = self._options.tenant_of(task, result.args, result.kwargs)
        content = {
            "tenant_id": tenant_id, "task": task.module_path, "args": result.args, "kwargs": result.kwargs,
            "backend": self.alias, "queue_name": task.queue_name, "priority": int(task.priority),
            "run_after": run_after,
        }  # fmt: skip
        event = parse_event(DJANGO_TASK, content)
        options = SendOptions(
            run_at=run_after,
            max_attempts=self._options.max_attempts,
            queue=None if task.queue_name == _DEFAULT_QUEUE else task.queue_name,
            priority=priority_of(int(task.priority)),
        )
        return new_run(
            DJANGO_TASK, tenant_id, event.to_json().decode(), options, Origin(run_id=result.id),
            search_fields=search_fields_of(event),
        )  # fmt: skip


def priority_of(priority: int) -> int | None:
    """Django's priorities, from -100 to 100, as ours from 0 to 9. None for 0, which is the usual one.

    Whatever is above or below 0 is above or below the usual one.
    """
    if priority == 0:
        return None
    if priority > 0:
        return DEFAULT_PRIORITY + (priority + 24) // 25
    return DEFAULT_PRIORITY - (19 - priority) // 20


def _aware(moment: datetime | None) -> datetime | None:
    """Of a project without time zones, in that of its settings."""
    return timezone.make_aware(moment) if moment is not None and timezone.is_naive(moment) else moment


def _client() -> JobClient:
    """Raises ConfigurationError where the application's jobs do not run in workers of its own."""
    client = get_job_client()
    if client.provider.name != "celery":
        raise ConfigurationError(
            f"Tasks of Django run in workers of this application, and JOBS_PROVIDER is {client.provider.name}.",
            hint="In tests use Django's own ImmediateBackend or DummyBackend in the setting TASKS.",
        )
    return client


assert job.JOB  # importing the backend registers the job, for the worker that imports the project's tasks
