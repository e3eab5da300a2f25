"""An application's own `@app.task` functions as jobs: their arguments are the payload, Celery's rules the policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

import structlog
from billiard.einfo import ExceptionInfo
from celery import Signature, signals
from celery.app.task import Context
from celery.exceptions import Retry

from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs.codec import decode, encode

if TYPE_CHECKING:
    from cgk_tasks.celery_tasks.task import TenantTask
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.runs.store import Claimed
    from cgk_tasks.worker.attempt import Outcome

log = structlog.get_logger("cgk_tasks.runs")

_AT_THE_END = (signals.task_success, signals.task_failure, signals.task_retry, signals.task_postrun)

# Celery retries only where the task says so (`self.retry`, `autoretry_for`), so the record's own policy is one attempt.
_ONE_ATTEMPT = RetryConfig(max_attempts=1)


def payload_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The arguments as JSON text. A signature among them is kept whole, generators inside it included."""
    return encode(
        {
            "args": [as_json(value) for value in args],
            "kwargs": {name: as_json(value) for name, value in kwargs.items()},
        }
    )


def as_json(value: Any) -> Any:
    """A signature as plain dictionaries and lists; anything else as it is."""
    return _unrolled(value) if isinstance(value, Signature) else value


def _unrolled(value: Any) -> Any:
    # Celery keeps the members of a group in a lazy list, which looks empty to a fast JSON encoder.
    if isinstance(value, dict):
        return {key: _unrolled(item) for key, item in value.items()}
    return [_unrolled(item) for item in value] if isinstance(value, list | tuple) else value


def arguments(run: Claimed) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments of the run of an adapted task."""
    stored = decode(run.payload)
    return stored["args"], stored["kwargs"]


@cache
def job_of(task: TenantTask) -> Job:
    """The job that runs an adapted task's function, with the task's own hooks around it."""

    def handler(ctx: JobContext[Any]) -> Any:
        args, kwargs = ctx.payload
        task.before_start(str(task.request.id), tuple(args), kwargs)
        if task.request.get("errback"):
            args = _error_arguments(task, args)
        value = task.run(*args, **kwargs)
        if put_off := task.request.get("put_off"):
            raise put_off  # by `self.retry(throw=False)`
        return value

    return Job(id=task.name, event=task.name, handler=handler, retry=_ONE_ATTEMPT, timeout=task.soft_time_limit)


def _error_arguments(task: TenantTask, args: list[Any]) -> list[Any]:
    """What Celery gives to an error link that takes more than an id: the failed request, the exception, its traceback."""
    request, error, trace, *rest = args
    return [Context(request), task.backend.exception_to_python(error), trace, *rest]


def changed_arguments(exc: BaseException | None, run: Claimed) -> str | None:
    """The payload of the next attempt, if `self.retry(args=..., kwargs=...)` changed it."""
    signature = getattr(exc, "sig", None) if isinstance(exc, Retry) else None
    if signature is None:
        return None
    payload = payload_of(signature.args or (), signature.kwargs or {})
    return payload if payload != run.payload else None


def begins(task: TenantTask, run: Claimed, payload: Any) -> None:
    """Make `task.request` speak of this run while its job runs, until `task.request_stack.pop()`; send `task_prerun`."""
    args, kwargs = payload if task.is_adapted else ((), {})
    context = request_of(run, args, kwargs, task.name)
    task.request_stack.push(context)
    if signals.task_prerun.receivers:
        signals.task_prerun.send(sender=task, task_id=context.id, task=task, args=args, kwargs=kwargs)


def ended(task: TenantTask, outcome: Outcome) -> None:
    """Call the task's hooks and Celery's signals for how the run ended. Their errors are logged: the record stands."""
    if not task.is_adapted and not any(signal.receivers for signal in _AT_THE_END):
        return  # an event's task has no hooks
    request: Any = task.request
    args, kwargs = tuple(request.args or ()), request.kwargs or {}
    error: Any = outcome.exception
    state, value = _celery_state(outcome), outcome.value if error is None else error
    try:
        if state == "SUCCESS":
            task.on_success(value, request.id, args, kwargs)
            signals.task_success.send(sender=task, result=value)
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
        if state in {"SUCCESS", "FAILURE"}:
            no_info: Any = None  # what Celery itself passes
            task.after_return(state, value, request.id, args, kwargs, no_info)
    except Exception:
        log.exception("task_hook_failed", task=task.name)
    finally:
        if signals.task_postrun.receivers:
            signals.task_postrun.send(
                sender=task,
                task_id=request.id,
                task=task,
                args=args,
                kwargs=kwargs,
                retval=value,
                state=state,
            )


def _celery_state(outcome: Outcome) -> str:
    if outcome.kind == "completed":
        return "SUCCESS" if outcome.exception is None else "IGNORED"
    return {"failed": "FAILURE", "cancelled": "REVOKED"}.get(outcome.kind, "RETRY")


def _info(error: BaseException) -> ExceptionInfo:
    return ExceptionInfo((type(error), error, error.__traceback__))


class RunRequest(Context):
    """Celery's request for a run. What is the same for nearly all is said once, here."""

    called_directly = False
    timelimit = (None, None)
    utc = True

    def __init__(self, **known: Any) -> None:
        self.__dict__.update(known)


def request_of(run: Claimed, args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> Context:
    """Celery's request for a run: what the task sees as `self.request`, links, chain and group included."""
    request = RunRequest(
        id=run.id,
        correlation_id=run.id,
        task=name,
        args=list(args),
        kwargs=dict(kwargs),
        retries=run.attempt - run.deaths - 1,
        root_id=run.id,
        headers={},
        stamps={},
        delivery_info={"exchange": "", "routing_key": run.queue, "priority": run.priority, "is_eager": False},
    )
    if run.canvas is not None:
        _take_part(request, decode(run.canvas))
    return request


def _take_part(request: Context, kept: Mapping[str, Any]) -> None:
    """What a signature said of its place in a canvas."""
    request.id = kept.get("task_id") or request.id
    request.root_id = kept.get("root_id") or request.id
    request.parent_id = kept.get("parent_id")
    request.callbacks = kept.get("link")
    request.errbacks = kept.get("link_error")
    request.chain = kept.get("chain")
    request.chord = kept.get("chord")
    request.group = kept.get("group_id")
    request.group_index = kept.get("group_index")
    request.headers = kept.get("headers") or {}
    request.stamped_headers = kept.get("stamped_headers")
    request.stamps = kept.get("stamps") or {}
    request.replaced_task_nesting = kept.get("replaced_task_nesting", 0)
    vars(request)["errback"] = kept.get("errback", False)
