"""Cron jobs that the beats and workers of the tests import. Their ticks come every second."""

from datetime import timedelta

from cgk_tasks import JobContext, define_cron_job
from cgk_tasks.events import TenantEvent

EVERY_SECOND = "every 1s"


@define_cron_job("test-each-second", schedule=EVERY_SECOND, misfire="all", overlap="allow")
def each_second(ctx: JobContext) -> str:
    return ctx.scheduled_for.isoformat()


class TwoSeconds(TenantEvent, event="test.twoSeconds"):
    """Two seconds have gone by."""

    note: str


@define_cron_job(
    "test-two-seconds", schedule="every 2s", event=TwoSeconds, payload={"note": "hello"}, spread=timedelta(seconds=0)
)
def two_seconds(ctx: JobContext[TwoSeconds]) -> str:
    return ctx.payload.note
