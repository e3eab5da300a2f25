"""Jobs of the tests of stops: they take long, each in its own way."""

import time
from pathlib import Path

from cgk_tasks import JobContext, RetryConfig, define_job
from cgk_tasks.events import TenantEvent
from tests.faults.jobs import noted

ONCE = RetryConfig(max_attempts=1)


class Long(TenantEvent, event="stop.long"):
    """Runs for some seconds. stubborn: it takes no interrupt."""

    journal: str
    seconds: float
    stubborn: bool = False


class Pages(TenantEvent, event="stop.pages"):
    """Notes page after page, with a checkpoint behind each, and takes every error for one of the page."""

    journal: str
    pages: int
    seconds: float


@define_job("stop-long", event=Long, retry=ONCE)
def long(ctx: JobContext[Long]) -> None:
    until = time.monotonic() + ctx.payload.seconds
    with noted(ctx.run_id, ctx.payload.journal):
        while (left := until - time.monotonic()) > 0:
            try:
                time.sleep(left)
            except BaseException:
                if not ctx.payload.stubborn:
                    raise


@define_job("stop-pages", event=Pages, retry=ONCE)
def pages(ctx: JobContext[Pages]) -> int:
    path = Path(ctx.payload.journal) / f"{ctx.run_id}.pages"
    for page in range(ctx.cursor or 0, ctx.payload.pages):
        time.sleep(ctx.payload.seconds)
        try:
            with path.open("a") as lines:
                lines.write(f"{page} attempt {ctx.attempt}\n")
            ctx.checkpoint(page + 1)
        except Exception:
            with path.open("a") as lines:
                lines.write(f"{page} failed\n")
    return ctx.payload.pages
