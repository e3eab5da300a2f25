"""Jobs that are traced."""

from opentelemetry import trace

from cgk_tasks import JobContext, PermanentError, RetryConfig, TransientError, define_job, send_job
from cgk_tasks.events import TenantEvent
from cgk_tasks.events.fields import Email

TWICE = RetryConfig(max_attempts=2, initial_delay=0.05, max_delay=0.1)


class Traced(TenantEvent, event="test.traced"):
    how: str
    email: Email = ""


@define_job("test-traced", event=Traced, retry=TWICE)
def traced(ctx: JobContext[Traced]) -> str | None:
    if ctx.payload.how == "send":
        return send_job(Traced(tenant_id=ctx.tenant_id, how="nothing")).id
    if ctx.payload.how == "fail" or (ctx.payload.how == "fail once" and ctx.attempt == 1):
        raise TransientError(f"for {ctx.payload.email}")
    if ctx.payload.how == "fail for good":
        raise PermanentError("no such account", code="ACCOUNT_NOT_FOUND")
    with trace.get_tracer("shop").start_as_current_span("the job's own span"):
        ctx.logger.info("inside")
    return None


class Both(TenantEvent, event="test.both"):
    """Two jobs."""


@define_job("test-left", event=Both)
def left(ctx: JobContext[Both]) -> None: ...


@define_job("test-right", event=Both)
async def right(ctx: JobContext[Both]) -> None:
    with trace.get_tracer("shop").start_as_current_span("in a coroutine"):
        pass
