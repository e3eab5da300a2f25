"""Hooks and signals for runs that end where no worker runs them, as Celery's main process has them."""

from __future__ import annotations

from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from celery import Celery, signals

from cgk_tasks.runs.ends import Closed

log = structlog.get_logger("cgk_tasks.runs")


def concerns(run: Closed) -> bool:
    """Whether somebody may want to be told of this end."""
    if run.state in {"cancelled", "expired"}:
        return bool(signals.task_revoked.receivers)
    return run.state == "failed"


def announce(app: Celery[Any], request: Any, state: str, error: Any) -> None:
    """Tell the task and the receivers. What they raise is logged: the record stands."""
    task: Any = app.tasks.get(request.task)
    if task is None:
        return
    try:
        if state in {"cancelled", "expired"}:
            signals.task_revoked.send(
                sender=task, request=request, terminated=False, signum=None, expired=state == "expired"
            )
        elif getattr(task, "is_adapted", False):
            args, kwargs = tuple(request.args or ()), request.kwargs or {}
            info = _info(error)
            task.on_failure(error, request.id, args, kwargs, info)
            signals.task_failure.send(
                sender=task, task_id=request.id, exception=error, args=args, kwargs=kwargs,
                traceback=error.__traceback__, einfo=info,
            )  # fmt: skip
            task.after_return("FAILURE", error, request.id, args, kwargs, None)
    except Exception:
        log.exception("task_hook_failed", task=task.name)


def _info(error: BaseException) -> ExceptionInfo:
    """With a traceback, which an exception has once it is raised."""
    try:
        raise error
    except BaseException:  # noqa: BLE001
        return ExceptionInfo()
