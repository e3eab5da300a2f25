"""What a Celery task is told of its runs: `self.request`, its own hooks, and Celery's signals."""

from __future__ import annotations

import signal
import time
from typing import Any

import structlog
from billiard.einfo import ExceptionInfo
from celery import Task, signals
from celery.exceptions import Reject, Retry

from cgk_tasks.celery_tasks.limits import has_limits, limits_of_event, limits_of_function
from cgk_tasks.celery_tasks.request import request_of
from cgk_tasks.runs.store import Claimed
from cgk_tasks.worker.attempt import Attempt
from cgk_tasks.worker.outcome import Outcome

log = structlog.get_logger("cgk_tasks.runs")


class TaskHooks:
    """Of one attempt of a run. calls_hooks: whether the task may have hooks of its own; an event's has none."""

    __slots__ = ("_begun", "_calls_hooks", "_is_listened_to", "_request", "_run", "_task")

    def __init__(self, task: Task[Any, Any], run: Claimed, *, calls_hooks: bool) -> None:
        self._task, self._run, self._calls_hooks = task, run, calls_hooks
        self._request: Any = None
        self._begun = 0.0
        self._is_listened_to = calls_hooks or _is_listened_to()

    def begin(self, attempt: Attempt) -> None:
        """Make `task.request` speak of this run while its job runs, find its time limits, and send `task_prerun`."""
        task = self._task
        payload = attempt.ctx.payload
        if self._calls_hooks:
            args, kwargs = payload
        else:  # an event's fields as what its task was called with: nobody else than receivers of signals asks for them
            args, kwargs = (), payload.model_dump() if self._is_listened_to else {}
        is_redelivered = self._run.deaths > 0 or (self._calls_hooks and payload.is_redelivered)
        context = request_of(self._run, args, kwargs, str(task.name), self._message, is_redelivered=is_redelivered)
        if self._calls_hooks and payload.ignore_result is not None:
            context.ignore_result = payload.ignore_result
        if self._run.sealed_canvas is not None or (self._calls_hooks and has_limits(task)):  # else nobody says any
            attempt.limits = (
                limits_of_function(task, context) if self._calls_hooks else limits_of_event(attempt.job, context)
            )
        self._request = context
        task.request_stack.push(context)
        if signals.task_prerun.receivers:
            signals.task_prerun.send(sender=task, task_id=context.id, task=task, args=args, kwargs=kwargs)
        if self._is_listened_to:
            self._begun = time.monotonic()

    def _message(self) -> Any:
        """The request that was there before this run's."""
        requests = self._task.request_stack.stack
        # Asked before it is on the stack, its message's is the last one.
        place = next((place for place, one in enumerate(requests) if one is self._request), len(requests))
        return requests[place - 1] if place else None

    def leave(self) -> None:
        self._task.request_stack.pop()
        self._request = None  # it knows these hooks: a circle of each run would wait for the garbage collector

    def ended(self, outcome: Outcome) -> None:
        """Call the task's hooks and Celery's signals for how the run ended. Their errors are logged: the record
        stands.
        """
        if not self._is_listened_to:
            return
        task, runtime = self._task, time.monotonic() - self._begun
        request: Any = task.request
        args, kwargs = tuple(request.args or ()), request.kwargs or {}
        error: Any = outcome.exception
        state, value = _celery_state(outcome), outcome.value if error is None else error
        try:
            if state == "SUCCESS":
                task.on_success(value, request.id, args, kwargs)
                signals.task_success.send(sender=task, result=value, runtime=runtime)
            elif state == "FAILURE":
                task.on_failure(error, request.id, args, kwargs, _info(error))
                signals.task_failure.send(
                    sender=task, task_id=request.id, exception=error, args=args, kwargs=kwargs,
                    traceback=error.__traceback__, einfo=_info(error),
                )  # fmt: skip
            elif outcome.kind == "retry":
                reason = error.exc if isinstance(error, Retry) and error.exc else error
                task.on_retry(reason, request.id, args, kwargs, _info(error))
                signals.task_retry.send(sender=task, request=request, reason=error, einfo=_info(error))
            elif state == "REVOKED":
                signals.task_revoked.send(
                    sender=task, request=request, terminated=True, signum=signal.SIGTERM, expired=False
                )
            if state in {"SUCCESS", "FAILURE"}:
                no_info: Any = None  # what Celery itself passes
                task.after_return(state, value, request.id, args, kwargs, no_info)
        except Exception:
            log.exception("task_hook_failed", task=task.name)
        finally:
            if signals.task_postrun.receivers:
                signals.task_postrun.send(
                    sender=task, task_id=request.id, task=task, args=args, kwargs=kwargs, retval=value, state=state
                )


_OF_ATTEMPTS = (
    signals.task_prerun, signals.task_success, signals.task_failure, signals.task_retry, signals.task_revoked,
    signals.task_postrun,
)  # fmt: skip


def _is_listened_to() -> bool:
    for one in _OF_ATTEMPTS:  # noqa: SIM110 - for each run, and `any` takes several times as long
        if one.receivers:
            return True
    return False


def _celery_state(outcome: Outcome) -> str:
    if outcome.kind == "completed":
        return "SUCCESS" if outcome.exception is None else "IGNORED"
    if outcome.kind == "snooze" and isinstance(outcome.exception, Reject):
        return "REJECTED"
    return {"failed": "FAILURE", "cancelled": "REVOKED"}.get(outcome.kind, "RETRY")


def _info(error: BaseException) -> ExceptionInfo:
    return ExceptionInfo((type(error), error, error.__traceback__))
