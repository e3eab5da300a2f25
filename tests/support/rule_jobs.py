"""Jobs whose rules decide about the sends of their events."""

import os
import signal
import time
from pathlib import Path

from cgk_tasks import AtOnce, Batch, Debounce, JobContext, PermanentError, RateLimit, RetryConfig, Singleton, define_job
from cgk_tasks.events import TenantEvent

QUICK = RetryConfig(max_attempts=3, initial_delay=0.05, jitter=False)


class Only(TenantEvent, event="rules.only"):
    key: str = ""


@define_job("rules-only", event=Only, limits=[Singleton(key="key")])
def only(ctx: JobContext[Only]) -> str:
    return ctx.payload.key


class Newest(TenantEvent, event="rules.newest"):
    """Runs until the test makes a file."""

    key: str = ""
    path: str = ""


@define_job("rules-newest", event=Newest, limits=[Singleton(key="key", on_conflict="cancel_old")])
def newest(ctx: JobContext[Newest]) -> str:
    while ctx.payload.path and not Path(ctx.payload.path).exists():
        time.sleep(0.02)
    return ctx.payload.key


class Edited(TenantEvent, event="rules.edited"):
    key: str = ""
    text: str = ""


@define_job("rules-edited", event=Edited, limits=[Debounce(0.5, max_wait=30, key="key")])
def edited(ctx: JobContext[Edited]) -> str:
    return ctx.payload.text


class Limited(TenantEvent, event="rules.limited"):
    key: str = ""


@define_job("rules-limited", event=Limited, limits=[RateLimit(3, every=3600, key="key"), RateLimit(5, every=3600)])
def limited(ctx: JobContext[Limited]) -> str:
    return ctx.payload.key


class Paced(TenantEvent, event="rules.paced"):
    """A bucket of a short time."""


@define_job("rules-paced", event=Paced, limits=[RateLimit(20, every=1, burst=5)])
def paced(ctx: JobContext[Paced]) -> None: ...


class Counted(TenantEvent, event="rules.counted"):
    key: str = ""
    number: int
    action: str = ""
    path: str = ""


@define_job("rules-counted", event=Counted, limits=[Batch(7, max_wait=0.3, key="key")], retry=QUICK)
def counted(ctx: JobContext[Counted]) -> list[int]:
    if ctx.payload.action == "die once" and not Path(ctx.payload.path).exists():
        Path(ctx.payload.path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    if ctx.payload.action == "fail":
        raise PermanentError("never")
    return [event.number for event in ctx.payloads]


class Twofold(Counted, event="rules.twofold"):
    """Of two jobs, which agree."""


@define_job("rules-sum", event=Twofold, limits=[Batch(2, max_wait=60)])
def total(ctx: JobContext[Twofold]) -> int:
    return sum(event.number for event in ctx.payloads)


@define_job("rules-list", event=Twofold, limits=[Batch(2, max_wait=60)])
def numbers(ctx: JobContext[Twofold]) -> list[int]:
    return [event.number for event in ctx.payloads]


class InTurn(Counted, event="rules.in_turn"):
    """Collected, and one run after the other."""


@define_job("rules-in-turn", event=InTurn, limits=[Batch(3, max_wait=0.3, key="key"), AtOnce(1, key="key")])
def in_turn(ctx: JobContext[InTurn]) -> list[int]:
    return [event.number for event in ctx.payloads]


class Alone(Newest, event="rules.alone"):
    """The newest counts, and begins when the old one has ended."""


@define_job("rules-alone", event=Alone, limits=[Singleton(on_conflict="cancel_old"), AtOnce(1)])
def alone(ctx: JobContext[Alone]) -> str:
    return newest(ctx)


class Slowly(TenantEvent, event="rules.slowly"):
    """Its run waits for further events as long as any test."""

    number: int


@define_job("rules-slowly", event=Slowly, limits=[Batch(100, max_wait=3600)])
def slowly(ctx: JobContext[Slowly]) -> list[int]:
    return [event.number for event in ctx.payloads]


class Plain(TenantEvent, event="rules.plain"):
    """Without rules."""


@define_job("rules-plain", event=Plain)
def plain(ctx: JobContext[Plain]) -> None: ...
