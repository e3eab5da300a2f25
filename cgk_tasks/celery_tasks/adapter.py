"""The Celery adapter: what the worker's pipeline must know of a Celery task to run its runs.

An event's task runs the jobs that are defined for the event. An application's own `@app.task` function is a job by
itself: its arguments are the payload, and Celery's rules the policy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, cast

from celery import Celery, Task
from celery.app.task import Context

from cgk_tasks.celery_tasks import task_notes
from cgk_tasks.celery_tasks.arguments import arguments_of
from cgk_tasks.celery_tasks.canvas import CanvasFollow
from cgk_tasks.celery_tasks.exceptions import interpret
from cgk_tasks.celery_tasks.hooks import TaskHooks
from cgk_tasks.errors import PayloadInvalidError
from cgk_tasks.events.registry import parse_event_json
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job, events_with_jobs, find_job, jobs_for
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.store import Claimed
from cgk_tasks.worker.executors import executed_name
from cgk_tasks.workflows.events import is_awaited_alone

UNHANDLED = "cgk_tasks.unhandled"
"""The task that gets the packets of events and tasks which this worker does not know."""

# Celery retries only where the task says so (`self.retry`, `autoretry_for`), so the record's own policy is one attempt.
_ONE_ATTEMPT = RetryConfig(max_attempts=1)

_ACKNOWLEDGED = ("acks_late", "reject_on_worker_lost", "retry_on_worker_lost")
"""With one of them false, Celery gives a task up when its process is killed."""


class EventAdapter:
    """The runs of an event's task."""

    interpret = staticmethod(interpret)

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self.name = str(task.name)
        self.follow = CanvasFollow(task.app)

    def is_for(self, run: Claimed) -> bool:
        """Whether the run is one of this task's: the record says what is executed, and a message does not."""
        return run.event == self.name

    def jobs(self, run: Claimed) -> Sequence[Job]:
        if run.job is None:
            return jobs_for(run.event)
        job = find_job(run.job)
        return (job,) if job is not None else ()

    def payload(self, run: Claimed) -> Any:
        """The event. Raises PayloadInvalidError."""
        payload = run.payload
        if payload.startswith("["):
            problem = "it is one of several events, which a job with a Batch takes, and the one here has none"
            raise PayloadInvalidError(run.event, [problem])
        return parse_event_json(run.event, payload)

    def hooks(self, run: Claimed) -> TaskHooks:
        return TaskHooks(self._task, run, calls_hooks=False)


class FunctionAdapter:
    """The runs of an application's own task."""

    interpret = staticmethod(interpret)

    def __init__(self, task: Task[Any, Any]) -> None:
        self._task = task
        self.name = str(task.name)
        self._jobs = (_job_of(task),)
        self.follow = CanvasFollow(task.app)

    def is_for(self, run: Claimed) -> bool:
        """As an event's."""
        return run.event == self.name

    def jobs(self, run: Claimed) -> Sequence[Job]:  # noqa: ARG002 - whichever run it is
        return self._jobs

    def payload(self, run: Claimed) -> Any:
        """The positional and keyword arguments."""
        return arguments_of(run)

    def hooks(self, run: Claimed) -> TaskHooks:
        return TaskHooks(self._task, run, calls_hooks=True)


class UnhandledAdapter(EventAdapter):
    """The runs of events and tasks that this worker does not know: it has no job for them."""

    def is_for(self, run: Claimed) -> bool:
        """Whether no task here has the run's name. A message of another worker may say so of one that has."""
        return run.event == self.name or run.event not in self._task.app.tasks

    def jobs(self, run: Claimed) -> Sequence[Job]:  # noqa: ARG002 - whichever run it is
        return ()


def executed_names(app: Celery[Any]) -> set[str]:
    """What a worker with this app executes, for the record of workers."""
    events = {event for event in events_with_jobs() if not is_awaited_alone(jobs_for(event))}
    names = {executed_name(event, job.id) for event in events for job in jobs_for(event)}
    functions = [name for name, task in app.tasks.items() if getattr(task, "is_adapted", False)]
    return names | events | {executed_name(name, job) for name in functions for job in (None, name)}


@cache
def adapter_of(task: Task[Any, Any]) -> EventAdapter | FunctionAdapter:
    if task.name == UNHANDLED:
        return UnhandledAdapter(task)
    return FunctionAdapter(task) if getattr(task, "is_adapted", False) else EventAdapter(task)


def _job_of(task: Task[Any, Any]) -> Job:
    """The job that runs a task's function, with the task's own hooks around it."""
    # A class may have something around each of its runs, as Flask's users do with their application's context.
    call = task if getattr(task, "has_own_call", False) else task.run

    def handler(ctx: JobContext[Any]) -> Any:
        args, kwargs = ctx.payload
        task.before_start(str(task.request.id), tuple(args), kwargs)
        request: Any = task.request
        if request.get("errback"):
            args = _error_arguments(task, args)
        try:
            value = call(*args, **kwargs)
        finally:
            if request.children:
                task_notes.note_children(str(request.id), request.children)
        if put_off := request.get("retry_at_return"):
            raise put_off  # by `self.retry(throw=False)`
        return value

    name = str(task.name)
    return Job(
        id=name,
        event=name,
        handler=cast("Callable[[JobContext[Any]], Any]", handler),
        retry=_ONE_ATTEMPT,
        timeout=0.0,  # its limits are Celery's, and may be of a single call
        keeps_types=True,
        ignores_result=lambda ctx: ignores_result(task, ctx.payload.ignore_result),
        redelivery=is_redelivered(task),
    )


def is_redelivered(task: Task[Any, Any]) -> bool:
    """Whether a run of the task is executed again after its worker or process was lost: as `redelivery` says, or else
    what the task itself says of acknowledgements.
    """
    said: bool | None = getattr(task, "redelivery", None)
    if said is not None:
        return said
    inherited = {name for name, _setting in getattr(task, "_from_settings", ())}
    given = [getattr(task, name, None) for name in _ACKNOWLEDGED if name not in inherited]
    return not any(one is False for one in given)


def ignores_result(task: Task[Any, Any] | None, said: bool | None) -> bool:
    """Whether nobody wants the result of a run: as its sender said, or else its task."""
    return bool(said if said is not None or task is None else task.ignore_result)


def _error_arguments(task: Task[Any, Any], args: list[Any]) -> list[Any]:
    """What Celery gives to an error link that takes more than an id: the failed request, the exception, its
    traceback.
    """
    request, error, trace, *rest = args
    return [Context(request), task.backend.exception_to_python(error), trace, *rest]
