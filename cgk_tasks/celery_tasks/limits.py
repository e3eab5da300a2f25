"""Time limits as Celery has them: of a call, of a task, or of all tasks; `time_limit` is hard, `soft_time_limit` soft.

One clock measures them for each run: the alarm of the process that runs its job raises at the soft limit, and the
supervisor kills that process at the hard one. Celery's own timers count the time of a whole message, which may have
many runs, and race with that alarm: they are for tasks with `durable=False` alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from celery import Task

from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.time_limit import Limits

if TYPE_CHECKING:
    from celery.worker import WorkController

_NAMES = ("time_limit", "soft_time_limit")
_of_worker = Limits()
"""Those that the worker was started with, for tasks that have none."""


def check_limits(options: Mapping[str, Any]) -> None:
    """Raises InvalidOptionError for a limit of a call that is no number of seconds. 0 is none, as in Celery."""
    for name in _NAMES:
        value = options.get(name)
        if value is None:
            continue
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not 0 <= value < math.inf:
            raise InvalidOptionError(name, f"must be a number of seconds, not {value!r}")


def without_own_limits(task: Task[Any, Any] | None, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a call without limits that are the task's own: the worker that runs it knows those."""
    own = [name for name in _NAMES if options.get(name) is not None and options[name] == getattr(task, name, None)]
    return {name: value for name, value in options.items() if name not in own} if own else options


@cache
def has_limits(task: Any) -> bool:
    """Whether runs of this task have limits that no call has named."""
    return bool(task.time_limit or task.soft_time_limit or any(_of_worker))


def limits_of_function(task: Any, request: Any) -> Limits | None:
    """Of an application's own task: each limit is the call's, else the task's, else that of all tasks of the worker.

    None for a run without any. The request shows what Celery's message says: the call's and the task's.
    """
    hard, soft = request.time_limit or task.time_limit, request.soft_time_limit or task.soft_time_limit
    if hard or soft:
        _show(request, hard, soft)
    hard, soft = hard or _of_worker.hard, soft or _of_worker.soft
    return Limits(float(soft or 0.0), float(hard or 0.0)) if hard or soft else None


def limits_of_event(job: Job, request: Any) -> Limits | None:
    """Of an event's job, whose sender may have said otherwise; None for the job's own."""
    hard, soft = request.time_limit, request.soft_time_limit
    if not hard and not soft:
        return None
    _show(request, hard, soft)
    own = replace(job, timeout=float(soft)).time_limits if soft else job.time_limits
    return Limits(own.soft, float(hard or own.hard))


def _show(request: Any, hard: float | None, soft: float | None) -> None:
    request.timelimit = [hard, soft]
    request.time_limit, request.soft_time_limit = hard, soft


def limits_of_message(task: Any, headers: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The hard and the soft limit of a message without runs, which Celery's timers measure."""
    hard, soft = headers.get("timelimit") or (None, None)
    return (
        hard or task.time_limit or _of_worker.hard or None,
        soft or task.soft_time_limit or _of_worker.soft or None,
    )


def take_over(worker: WorkController) -> None:
    """Before the pool starts: the limits that it was given hold for each run, and it measures none of them."""
    global _of_worker  # noqa: PLW0603 - one worker a process
    given, pool = vars(worker), cast("Any", worker.pool)
    _of_worker = Limits(given["soft_time_limit"] or 0.0, given["time_limit"] or 0.0)
    has_limits.cache_clear()
    pool.options["timeout"] = pool.options["soft_timeout"] = None
