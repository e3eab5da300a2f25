"""Middleware: functions around a job, for what many jobs share.

A middleware gets the context and `call_next`, which runs the rest and returns the job's result:

    def with_greeting(ctx: JobContext[Any], call_next: CallNext) -> Any:
        ctx.logger.info("hello")
        return call_next()

It is always a plain function, also around an `async def` job: the innermost `call_next` runs that to its end.
It may refuse a run by raising, and change the result by returning another one.

Those without options are used as they are, those with options are called:

    middleware=[with_logging, with_timeout(30)]

as they are: with_logging, with_error_classification, with_tenant_context
called: with_timing(), with_timeout(), with_idempotency(), with_rate_limit()
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from cgk_tasks.errors import (
    CgkTasksError,
    ConfigurationError,
    LimitReached,
    PermanentError,
    RetryLater,
    RunCancelledError,
    TenantMissingError,
    TransientError,
    as_seconds,
)
from cgk_tasks.jobs.classification import classify_error
from cgk_tasks.jobs.idempotency import IdempotencyStorage, idempotency_key
from cgk_tasks.jobs.time_limit import within
from cgk_tasks.jobs.types import CallNext, Middleware
from cgk_tasks.logger import get_logger
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.tenancy.cache import tenant_cache
from cgk_tasks.tenancy.context import tenant_context
from cgk_tasks.tenancy.models import Tenant

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.jobs.rate_limit import RateLimiter

log = get_logger("cgk_tasks.jobs")


def compose_middleware(*middleware: Middleware) -> Middleware:
    """Make one middleware out of several; the first is the outermost.

    The result keeps nothing between calls, so it can run many times at once. Raises ConfigurationError for
    something that is no plain function; and, while it runs, RuntimeError when a middleware calls `call_next` again.
    """
    for one in middleware:
        if not callable(one) or inspect.iscoroutinefunction(one):
            raise ConfigurationError(
                f"{_name(one)} is no middleware: write it as a plain function, def {_name(one)}(ctx, call_next)."
            )
    inwards = middleware[::-1]

    def composed(ctx: JobContext[Any], call_next: CallNext) -> Any:
        for one in inwards:
            call_next = partial(one, ctx, _once(call_next, one))
        return call_next()

    return composed


def _once(call_next: CallNext, caller: Middleware) -> CallNext:
    called = False

    def once() -> Any:
        nonlocal called
        if called:
            raise RuntimeError(
                f"The middleware {_name(caller)} called call_next() twice, which would run the job twice. "
                "To repeat a job, let it raise: its RetryConfig says when it runs again."
            )
        called = True
        return call_next()

    return once


def _name(thing: object) -> str:
    return getattr(thing, "__qualname__", repr(thing))


def with_logging(ctx: JobContext[Any], call_next: CallNext) -> Any:
    """Log that the job started, and how it ended after how many seconds.

    The lines carry neither payload nor result, nor an error's text, which often quotes them.
    """
    logger = ctx.logger.bind(event=ctx.event, run=ctx.run_id, attempt=ctx.attempt)
    logger.info("job_started")
    begun = time.perf_counter()
    try:
        result = call_next()
    except _and_of_celery(RetryLater, "Retry"):
        logger.info("job_postponed", seconds=_since(begun))
        raise
    except _and_of_celery(RunCancelledError, "Ignore", "Reject") as exc:
        logger.info("job_stopped", seconds=_since(begun), error=type(exc).__qualname__)
        raise
    except BaseException as exc:
        code = classify_error(exc).code
        logger.error("job_failed", seconds=_since(begun), error=type(exc).__qualname__, code=code)  # noqa: TRY400
        raise
    logger.info("job_completed", seconds=_since(begun))
    return result


def _since(begun: float) -> float:
    return round(time.perf_counter() - begun, 4)


def _and_of_celery(ours: type[BaseException], *names: str) -> tuple[type[BaseException], ...]:
    """An exception and some of Celery's. Asked for when a job has raised something: a sender need not load Celery."""
    from celery import exceptions

    return (ours, *(getattr(exceptions, name) for name in names))


def with_timing(*, record: Callable[[JobContext[Any], float], object] | None = None) -> Middleware:
    """Leave the seconds that the job took in `ctx.extra["seconds"]`, also when it fails.

    record: called with the context and the seconds, for a metric. What it raises is logged: the job's end stands.
    """

    def timing(ctx: JobContext[Any], call_next: CallNext) -> Any:
        begun = time.perf_counter()
        try:
            return call_next()
        finally:
            seconds = ctx.extra["seconds"] = time.perf_counter() - begun
            if record is not None:
                _record(record, ctx, seconds)

    return timing


def _record(record: Callable[[JobContext[Any], float], object], ctx: JobContext[Any], seconds: float) -> None:
    try:
        record(ctx, seconds)
    except Exception:
        ctx.logger.exception("timing_not_recorded")


def with_timeout(seconds: float | timedelta) -> Middleware:
    """Raise JobTimeoutError inside the job once it has run this long (seconds or a timedelta).

    For a shorter limit of a part of the chain; the job's own is `define_job(..., timeout=)`. Raises
    ConfigurationError unless it is more than 0.
    """
    limit = positive_seconds("with_timeout", seconds)

    def timeout(ctx: JobContext[Any], call_next: CallNext) -> Any:  # noqa: ARG001
        return within(limit, 0.0, call_next)

    return timeout


def positive_seconds(what: str, duration: float | timedelta) -> float:
    """The duration in seconds. Raises ConfigurationError unless it is more than 0; `what`: who was given it."""
    if isinstance(duration, (int, float, timedelta)) and 0 < as_seconds(duration) < float("inf"):
        return as_seconds(duration)
    raise ConfigurationError(f"{what}: the time must be more than 0 seconds, or a timedelta, not {duration!r}.")


def with_error_classification(ctx: JobContext[Any], call_next: CallNext) -> Any:  # noqa: ARG001
    """Turn foreign exceptions into PermanentError or TransientError, with their code and Retry-After.

    Passed on unchanged: errors of cgk_tasks, Celery's Retry, Ignore and Reject, and errors that are not known.
    """
    try:
        return call_next()
    except _and_of_celery(CgkTasksError, "Retry", "Ignore", "Reject"):
        raise
    except Exception as exc:
        found = classify_error(exc)
        text = f"{type(exc).__qualname__}: {exc}"
        if found.kind == "permanent":
            raise PermanentError(text, found.code) from exc
        if found.kind == "transient":
            raise TransientError(text, found.code, found.retry_after) from exc
        raise


def with_tenant_context(ctx: JobContext[Any], call_next: CallNext) -> Any:
    """Run the job in its tenant's context. Workers have done that before any middleware runs.

    Raises TenantMissingError without a tenant, TenantContextError inside the context of another one.
    """
    if not isinstance(ctx.tenant, Tenant):
        raise TenantMissingError(f"Run {ctx.run_id} of job {ctx.job_id!r}")
    with tenant_context(ctx.tenant):
        return call_next()


def with_idempotency(
    get_key: Callable[[JobContext[Any]], str | None],
    storage: IdempotencyStorage | None = None,
    seconds: float | timedelta = 86_400,
) -> Middleware:
    """Return the kept result, without running the job, when a run with the same key has completed before.

        with_idempotency(lambda ctx: ctx.payload.payout_id)

    Keys are told apart by tenant and job. A job that fails keeps nothing. A job that wrote with `ctx.db` keeps its
    result once that is committed. Two runs with one key at the same moment both run: to prevent that, send them
    with `idempotency_key=`.

    get_key: the key of a run; None for a run that has none and always runs.
    storage: None for the tenant cache. seconds: how long a result is kept, a day by default.
    Raises ConfigurationError for arguments of a wrong kind, PermanentError for a key that is empty or no text.
    """
    if not callable(get_key):
        raise ConfigurationError(
            "with_idempotency needs a function: with_idempotency(lambda ctx: ctx.payload.order_id)."
        )
    keep_seconds = positive_seconds("with_idempotency", seconds)

    def idempotency(ctx: JobContext[Any], call_next: CallNext) -> Any:
        key = get_key(ctx)
        if key is None:
            return call_next()
        if not isinstance(key, str) or not key:
            raise PermanentError(f"get_key of job {ctx.job_id!r} gave {key!r}; return a text or None.", "INVALID_INPUT")
        keep: IdempotencyStorage = storage if storage is not None else tenant_cache()
        name = idempotency_key(ctx.tenant_id, "result", ctx.job_id, key)
        kept = keep.get(name)
        if kept is not None:
            log.info("job_skipped", job=ctx.job_id, reason="a run with the same idempotency key has completed")
            return decode(kept if isinstance(kept, str) else kept.decode())
        result = call_next()
        _after_commit(ctx, partial(_keep, keep, name, encode(result), keep_seconds))
        return result

    return idempotency


def _after_commit(ctx: JobContext[Any], act: Callable[[], None]) -> None:
    """Act once what the job wrote is safe: a kept result whose writes were rolled back would lose them for good."""
    if ctx.opened_session is None:
        act()
        return
    from sqlalchemy import event

    event.listen(ctx.opened_session, "after_commit", lambda _session: act(), once=True)


def _keep(storage: IdempotencyStorage, name: str, result: str, seconds: float) -> None:
    try:
        storage.set(name, result, seconds=seconds)
    except Exception:
        # The job is done. To fail it now would surely run it again; a lost key does so only if the key comes again.
        log.exception("idempotent_result_not_kept")


def with_rate_limit(limiter: RateLimiter) -> Middleware:
    """Run the job only when the limiter has room for its tenant, else raise LimitReached: it uses no attempt.

        stripe = shared_rate_limiter(name="stripe", interval=1, max_per_interval=25)

        @define_job("charge", event="order.created", middleware=[with_rate_limit(stripe)])
        def charge(ctx): ...

    Make the limiter once, beside the jobs that share it.
    """

    def rate_limit(ctx: JobContext[Any], call_next: CallNext) -> Any:
        permit = limiter.acquire(ctx.tenant_id, holder=ctx.run_id)
        if not permit.granted:
            numbers = f": {permit.limit}" if permit.limit else ""
            raise LimitReached(permit.wait_seconds, f"rate limit {limiter.name!r} of tenant {ctx.tenant_id}{numbers}")
        try:
            return call_next()
        finally:
            limiter.release(permit)

    return rate_limit
