"""An application's own `@app.task` functions as jobs: their arguments are the payload, Celery's rules the policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

from celery._state import _task_stack
from celery.app.task import Context
from celery.exceptions import Ignore, Retry

from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.tasks.jobs import Job
from cgk_tasks.tasks.retry import RetryConfig

if TYPE_CHECKING:
    from cgk_tasks.runs.store import Claimed
    from cgk_tasks.tasks.base import TenantTask
    from cgk_tasks.tasks.context import JobContext

# Celery retries only where the task says so (`self.retry`, `autoretry_for`), so the record's own policy is one attempt.
_ONE_ATTEMPT = RetryConfig(max_attempts=1)


def payload_of(args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    return encode({"args": list(args), "kwargs": dict(kwargs)})


def arguments(run: Claimed) -> tuple[list[Any], dict[str, Any]]:
    """The positional and keyword arguments of a plain task's run."""
    stored = decode(run.payload)
    return stored["args"], stored["kwargs"]


@cache
def job_of(task: TenantTask) -> Job:
    """The job that runs a plain task's function, with the task's own hooks around it."""

    def handler(ctx: JobContext[Any]) -> Any:
        args, kwargs = ctx.payload
        return _call(task, ctx.run_id, args, kwargs)

    return Job(id=task.name, event=task.name, handler=handler, retry=_ONE_ATTEMPT, timeout=0)  # Celery's own limits apply


def _call(task: TenantTask, run_id: str, args: list[Any], kwargs: dict[str, Any]) -> Any:
    task.before_start(run_id, tuple(args), kwargs)
    try:
        value = task.run(*args, **kwargs)
    except Retry as exc:
        task.on_retry(exc.exc or exc, run_id, tuple(args), kwargs, None)
        raise
    except Ignore:
        raise
    except Exception as exc:
        task.on_failure(exc, run_id, tuple(args), kwargs, None)
        task.after_return("FAILURE", exc, run_id, tuple(args), kwargs, None)
        raise
    task.on_success(value, run_id, tuple(args), kwargs)
    task.after_return("SUCCESS", value, run_id, tuple(args), kwargs, None)
    return value


def changed_arguments(exc: BaseException | None, run: Claimed) -> str | None:
    """The payload of the next attempt, if `self.retry(args=..., kwargs=...)` changed it."""
    signature = getattr(exc, "sig", None) if isinstance(exc, Retry) else None
    if signature is None:
        return None
    payload = payload_of(signature.args or (), signature.kwargs or {})
    return payload if payload != run.payload else None


@contextmanager
def request_pushed(task: TenantTask, run: Claimed, payload: Any) -> Iterator[None]:
    """Make `task.request` and Celery's current task speak of this run while its job runs."""
    args, kwargs = payload if task.is_plain else ((), {})
    context = request_of(run, args, kwargs, task.name)
    _task_stack.push(task)
    task.request_stack.push(context)
    try:
        yield
    finally:
        task.request_stack.pop()
        _task_stack.pop()


def request_of(run: Claimed, args: Sequence[Any], kwargs: Mapping[str, Any], name: str) -> Context:
    """Celery's request for a run: what the task sees as `self.request`, links, chain and group included."""
    kept = decode(run.canvas) or {}
    return Context(
        id=run.id,
        correlation_id=run.id,
        task=name,
        args=list(args),
        kwargs=dict(kwargs),
        retries=run.attempt - run.deaths - 1,
        root_id=kept.get("root_id") or run.id,
        parent_id=kept.get("parent_id"),
        callbacks=kept.get("link"),
        errbacks=kept.get("link_error"),
        chain=kept.get("chain"),
        chord=kept.get("chord"),
        group=kept.get("group_id"),
        group_index=kept.get("group_index"),
        headers=kept.get("headers") or {},
        stamped_headers=kept.get("stamped_headers"),
        stamps=kept.get("stamps") or {},
        replaced_task_nesting=kept.get("replaced_task_nesting", 0),
        delivery_info={"exchange": "", "routing_key": run.queue, "priority": run.priority, "is_eager": False},
        called_directly=False,
        is_eager=False,
        ignore_result=False,
        timelimit=(None, None),
        expires=None,
        eta=None,
        hostname=None,
        utc=True,
    )
