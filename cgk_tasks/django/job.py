"""The job that runs Django's tasks in a worker, and Django's signals around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final

from celery import signals as celery_signals
from django.utils import timezone

from cgk_tasks.django.framework import TaskContext, TaskResultStatus, signals
from cgk_tasks.django.results import change, error_of, find_task, running_result
from cgk_tasks.events.django_task import DJANGO_TASK, DjangoTask
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import define_job
from cgk_tasks.runs.text import traceback_of
from cgk_tasks.worker.identity import worker_id

JOB: Final = "django-task"

_attempted: ContextVar[Any] = ContextVar("cgk_django_result", default=None)
"""The result of the task that this context works on, or worked on last."""


@define_job(JOB, event=DjangoTask)
def run_task(ctx: JobContext[DjangoTask]) -> Any:
    """Call the task's function. What it raises is the run's error, and what it returns must be JSON, as in Django."""
    task = find_task(ctx.payload)
    result = running_result(ctx, task, worker_id())
    _attempted.set(result)
    signals.task_started.send(sender=type(task.get_backend()), task_result=result)
    context = (TaskContext(task_result=result),) if task.takes_context else ()
    return plain_json(task.call(*context, *result.args, **result.kwargs))


def plain_json(value: Any) -> Any:
    """A task's value as JSON has it. Raises TypeError or ValueError, which no further attempt would cure."""
    try:
        return _plain(value)
    except (TypeError, ValueError) as exc:
        exc.code = "PERMANENT_ERROR"  # type: ignore[union-attr]  # the task has done its work: it is not repeated
        raise


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    if isinstance(value, Mapping):
        return {_plain(name): _plain(item) for name, item in value.items()}
    if isinstance(value, bytes):
        return value.decode("utf-8")
    if isinstance(value, Sequence):
        return [_plain(item) for item in value]
    raise TypeError(f"Unsupported type: {type(value)}. A task returns what JSON can say.")


def _ended(task_id: str | None, **values: Any) -> None:
    """Tell that a task has come to its end, once that is on record. An attempt that is to be repeated is no end."""
    result = _attempted.get()
    if result is None or result.id != task_id:
        return  # it did not come as far as its function: its arguments could not be read, or it was not found
    _attempted.set(None)
    change(result, finished_at=timezone.now(), **values)
    signals.task_finished.send(sender=type(result.task.get_backend()), task_result=result)


def _succeeded(sender: Any = None, result: Any = None, **_arguments: Any) -> None:
    if getattr(sender, "name", None) == DJANGO_TASK:
        _ended(sender.request.id, status=TaskResultStatus.SUCCESSFUL, _return_value=result)


def _failed(sender: Any = None, task_id: str | None = None, exception: Any = None, **_arguments: Any) -> None:
    if getattr(sender, "name", None) == DJANGO_TASK:
        errors = [error_of(exception, traceback_of(exception))]
        _ended(task_id, status=TaskResultStatus.FAILED, errors=errors)


# Celery's signals, since they come after the record: what was called finished must not run again.
celery_signals.task_success.connect(_succeeded, weak=False)
celery_signals.task_failure.connect(_failed, weak=False)
