"""`create_job_handler`: an attempt as a function of its context, for tests and runners of one's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.event_loop import run_coroutine
from cgk_tasks.jobs.middleware import (
    compose_middleware,
    positive_seconds,
    with_error_classification,
    with_logging,
    with_tenant_context,
)
from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.types import Middleware
from cgk_tasks.worker.attempt import Attempt, leave_open, run_attempt, value_of


def create_job_handler(
    handler: Callable[[JobContext[Any]], Any],
    *,
    timeout: float | timedelta | None = None,
    skip_tenant_context: bool = False,
    middleware: Sequence[Middleware] = (),
) -> Callable[[JobContext[Any]], Any]:
    """Wrap a handler as workers do, for tests and runners of your own: call the result with a JobContext.

    Around it is what workers have around a job, in the same order: tenant context, log lines, timing, time limit; then
    `with_logging`, error classification, and `middleware`, the first the outermost. The handler may be `def` or `async
    def`. It returns what the handler returns, and raises what it raises, as PermanentError or TransientError where that
    is known. What the handler did with `ctx.db` is the caller's to commit (`ctx.opened_session.commit()`) and to close
    (`ctx.close_session()`).

    timeout: seconds or a timedelta, None for no limit. skip_tenant_context: for work that belongs to no tenant.
    Raises ConfigurationError for a timeout that is not more than 0, and for middleware that is no function.
    """
    limit = 0.0 if timeout is None else positive_seconds("create_job_handler", timeout)
    around = compose_middleware(with_logging, with_error_classification, *middleware)

    def call(ctx: JobContext[Any]) -> Any:
        value = handler(ctx)
        return run_coroutine(value) if inspect.iscoroutine(value) else value

    def run(ctx: JobContext[Any]) -> Any:
        job = Job(ctx.job_id, ctx.event, call, timeout=limit, around=around)
        attempt = Attempt(job, ctx, leave_open, ctx.max_attempts, has_tenant=not skip_tenant_context)
        if skip_tenant_context:
            return value_of(run_attempt(attempt))
        return with_tenant_context(ctx, lambda: value_of(run_attempt(attempt)))

    return run
