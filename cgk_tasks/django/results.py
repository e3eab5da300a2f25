"""A run as Django's `TaskResult`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.utils import timezone
from django.utils.module_loading import import_string

from cgk_tasks.django.framework import Task, TaskError, TaskException, TaskResult, TaskResultStatus
from cgk_tasks.errors import PermanentError
from cgk_tasks.events.django_task import DjangoTask
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.runs.models import RunStatus

UNKNOWN: Final = "unknown"
"""In `worker_ids`, an attempt of which the record does not say who made it: it knows the last one's worker."""

_STATUS: Final[Mapping[str, Any]] = {
    "scheduled": TaskResultStatus.READY,
    "pending": TaskResultStatus.READY,
    "held": TaskResultStatus.READY,
    "retrying": TaskResultStatus.READY,
    "running": TaskResultStatus.RUNNING,
    "completed": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,
    "expired": TaskResultStatus.FAILED,
    "unhandled": TaskResultStatus.FAILED,
}
_ENDED_BY: Final = {"cancelled": "cgk_tasks.errors.RunCancelledError"}
_FAILED: Final = "cgk_tasks.errors.RunFailedError"


def find_task(content: DjangoTask) -> Any:
    """The task, as it was enqueued. Raises ImportError, and PermanentError for what is no task."""
    found = import_string(content.task)
    if not isinstance(found, Task):
        raise PermanentError(
            f"{content.task} is not a task.", "INVALID_STATE",
            hint="Is the function still decorated with @task, under this name?",
        )  # fmt: skip
    try:
        return found.using(
            backend=content.backend, queue_name=content.queue_name, priority=content.priority,
            run_after=shown(content.run_after),
        )  # fmt: skip
    except (TaskException, ImproperlyConfigured):
        return found  # the settings have another backend or other queues by now: it runs, and is read, all the same


def new_result(task: Any, run_id: str, args: Any, kwargs: Any, alias: str) -> Any:
    """Of a task that is being enqueued. Raises TypeError or ValueError for arguments that JSON cannot say."""
    return TaskResult(
        task=task, id=run_id, status=TaskResultStatus.READY, enqueued_at=None, started_at=None, finished_at=None,
        last_attempted_at=None, args=args, kwargs=kwargs, backend=alias, errors=[], worker_ids=[],
    )  # fmt: skip


def running_result(ctx: JobContext[DjangoTask], task: Any, worker: str) -> Any:
    """Of a task whose attempt begins here. What earlier attempts raised is in `get_result` alone."""
    content, began = ctx.payload, shown(ctx.started_at)
    return TaskResult(
        task=task, id=ctx.run_id, status=TaskResultStatus.RUNNING, enqueued_at=shown(ctx.queued_at), started_at=began,
        finished_at=None, last_attempted_at=began, args=content.args, kwargs=content.kwargs, backend=content.backend,
        errors=[], worker_ids=_workers(ctx.attempt, worker),
    )  # fmt: skip


def result_of(run: RunStatus, content: DjangoTask) -> Any:
    """Of a run on record. Raises what `find_task` does."""
    began = run.errors[0].get("began_at") if run.errors else None
    result = TaskResult(
        task=find_task(content), id=run.id, status=_STATUS[run.state], enqueued_at=shown(run.created_at),
        started_at=shown(run.started_at if began is None else datetime.fromisoformat(began)),
        finished_at=shown(run.closed_at), last_attempted_at=shown(run.started_at), args=content.args,
        kwargs=content.kwargs, backend=content.backend, errors=_errors(run),
        worker_ids=_workers(run.attempt, run.worker_id or UNKNOWN),
    )  # fmt: skip
    if run.state == "completed":
        change(result, _return_value=run.result)
    return result


def change(result: Any, **values: Any) -> None:
    """Set what the class keeps from being set by anybody else."""
    for name, value in values.items():
        object.__setattr__(result, name, value)


def error_of(exc: BaseException, traceback: str) -> Any:
    return TaskError(exception_class_path=f"{type(exc).__module__}.{type(exc).__qualname__}", traceback=traceback)


def shown(moment: datetime | None) -> datetime | None:
    """A time as the project has its times."""
    return moment if moment is None or settings.USE_TZ else timezone.make_naive(moment)


def _workers(attempt: int, last: str) -> list[str]:
    """One for each attempt, since Django counts attempts by them."""
    return [UNKNOWN] * (attempt - 1) + [last] if attempt else []


def _errors(run: RunStatus) -> list[Any]:
    found = [
        TaskError(
            exception_class_path=f"{error.get('module', 'builtins')}.{error.get('type', 'Exception')}",
            traceback=error.get("traceback", ""),
        )
        for error in run.errors
    ]
    if _STATUS[run.state] == TaskResultStatus.FAILED and (run.state != "failed" or not found):
        ended = TaskError(
            exception_class_path=_ENDED_BY.get(run.state, _FAILED),
            traceback=f"The run is {run.state}{f' ({run.error_code})' if run.error_code else ''}.\n",
        )
        found.append(ended)
    return found
