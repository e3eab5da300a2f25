"""Jobs of several tenants that want the same workers."""

import time

from cgk_tasks import JobContext, RetryConfig, define_job
from cgk_tasks.events import TenantEvent


class Nap(TenantEvent, event="shares.nap"):
    """Takes its time, and does nothing else."""

    seconds: float = 0.02
    fails_once: bool = False


class OtherNap(Nap, event="shares.other_nap"):
    """The same under another name."""


@define_job("shares-nap", event=Nap, retry=RetryConfig(initial_delay=0.2, jitter=False))
@define_job("shares-other-nap", event=OtherNap)
def nap(ctx: JobContext[Nap]) -> None:
    if ctx.payload.fails_once and ctx.attempt == 1:
        raise ValueError("once")
    time.sleep(ctx.payload.seconds)
