"""Tasks and an event that only some workers of a test know."""

from cgk_tasks import JobContext, app, define_job
from cgk_tasks.events import TenantEvent


class Late(TenantEvent, event="test.late"):
    """Of a module that a deployment brings."""

    number: int = 0


@define_job("late", event=Late)
def late(ctx: JobContext[Late]) -> int:
    return ctx.payload.number


@define_job("late-order", event="order.created")
def late_order(ctx: JobContext) -> str:
    return ctx.payload.order_id


@app.task
def late_task(number):
    return number
