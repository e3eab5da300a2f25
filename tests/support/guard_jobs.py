"""Jobs that call a partner over HTTP, with guards."""

import time
import urllib.request
from pathlib import Path

from cgk_tasks import JobContext, RetryConfig, define_guard, define_job
from cgk_tasks.events import TenantEvent

PROBE_SECONDS = 1.5

define_guard("partner", at_once=8, probe_after=PROBE_SECONDS)
define_guard("account", at_once=2, per="tenant", probe_after=PROBE_SECONDS)


class Call(TenantEvent, event="guards.call"):
    url: str
    path: str = ""
    seconds: float = 0.0


class OtherCall(Call, event="guards.other.call"):
    """Another job of the same partner."""


class AccountCall(Call, event="guards.account.call"):
    """Of a partner at which each tenant has an account."""


class Free(TenantEvent, event="guards.free"):
    """Uses nothing."""


def call(ctx: JobContext[Call]) -> int:
    """How many were on, this one included. Raises what the partner says."""
    mine = Path(ctx.payload.path, ctx.run_id) if ctx.payload.path else None
    if mine is not None:
        mine.touch()
    try:
        with urllib.request.urlopen(ctx.payload.url, timeout=30) as answer:
            answer.read()
        time.sleep(ctx.payload.seconds)
        return len(list(mine.parent.iterdir())) if mine is not None else 0
    finally:
        if mine is not None:
            mine.unlink()


QUICK = RetryConfig(max_attempts=10, initial_delay=0.05, backoff="fixed", jitter=False)


@define_job("guards-call", event=Call, uses=["partner"], retry=QUICK)
def one(ctx: JobContext[Call]) -> int:
    return call(ctx)


@define_job("guards.other.call", event=OtherCall, uses=["partner"], retry=QUICK)
def other(ctx: JobContext[OtherCall]) -> int:
    return call(ctx)


@define_job("guards.account.call", event=AccountCall, uses=["account"], retry=QUICK)
def of_account(ctx: JobContext[AccountCall]) -> int:
    return call(ctx)


@define_job("guards-free", event=Free)
def free(ctx: JobContext[Free]) -> str:
    return ctx.run_id
