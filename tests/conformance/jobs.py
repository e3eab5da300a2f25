"""Jobs of the conformance suite: the same for every provider."""

import asyncio
import threading
import time
from pathlib import Path

from cgk_tasks import (
    Batch,
    Debounce,
    JobContext,
    PermanentError,
    RateLimit,
    RetryConfig,
    RetryLater,
    Singleton,
    TransientError,
    current_tenant,
    define_job,
)
from cgk_tasks.events import TenantEvent

ONCE = RetryConfig(max_attempts=1)
QUICKLY = RetryConfig(max_attempts=3, initial_delay=0.02, jitter=False)


class Act(TenantEvent, event="conformance.act"):
    """Asks for something."""

    action: str
    argument: str = ""


@define_job("conformance-act", event=Act, retry=RetryConfig(max_attempts=3, initial_delay=0.02, jitter=False))
def act(ctx: JobContext[Act]) -> object:
    return ACTIONS[ctx.payload.action](ctx, ctx.payload.argument)


def _fail_until(ctx, argument):
    if ctx.attempt < int(argument):
        raise TransientError(f"attempt {ctx.attempt}")
    return ctx.attempt


def _snooze_once(ctx, argument):
    flag = Path(argument)
    if not flag.exists():
        flag.touch()
        raise RetryLater(0.05)
    return ctx.attempt


def _wait_for_file(ctx, argument):
    path = Path(argument)
    path.with_suffix(".started").touch()
    give_up = time.monotonic() + 20
    while not path.exists() and time.monotonic() < give_up:
        time.sleep(0.01)
    return "released"


def _pages(ctx, _):
    """Three pages; the first attempt fails after the second. The result: which attempt did which pages."""
    done = ctx.cursor or []
    done.append([])
    for page in range(sum(len(pages) for pages in done) + 1, 4):
        done[-1].append(page)
        ctx.checkpoint(done)
        if page == 2:
            raise TransientError("after page 2")
    return done


def _tell_and_wait(ctx, argument):
    ctx.metadata["file"] = {"name": "orders.csv", "rows": [1, 2]}
    ctx.progress(1, 4, "page 1")
    released = _wait_for_file(ctx, argument)
    ctx.progress(4, 4, "all pages")
    ctx.metadata["file"] = None
    return released


def _tell_and_fail_once(ctx, _):
    if ctx.attempt == 1:
        ctx.metadata["first"] = True
        ctx.progress(3, 10)
        raise TransientError("after telling")
    ctx.metadata["second"] = sorted(ctx.metadata)
    return ctx.metadata["second"]


def _tell(ctx, argument):
    ctx.progress(float(argument))


def _raise(error):
    raise error


def _append(ctx, argument):
    path, _, text = argument.partition("|")
    with Path(path).open("a") as file:
        file.write(f"{text}\n")


ACTIONS = {
    "echo": lambda ctx, argument: argument,
    "tenant": lambda ctx, _: [ctx.tenant_id, current_tenant().id],
    "attempt": lambda ctx, _: [ctx.attempt, ctx.max_attempts, ctx.job_id, ctx.event],
    "fail": lambda ctx, argument: _raise(ValueError(argument)),
    "fail_permanently": lambda ctx, argument: _raise(PermanentError(argument, code="NO_ACCOUNT")),
    "fail_until": _fail_until,
    "snooze_once": _snooze_once,
    "wait_for_file": _wait_for_file,
    "not_json": lambda ctx, _: threading.Lock(),
    "too_large": lambda ctx, _: "x" * 300_000,
    "append": _append,
    "pages": _pages,
    "tell": _tell,
    "tell_and_wait": _tell_and_wait,
    "tell_and_fail_once": _tell_and_fail_once,
}


class Backoff(TenantEvent, event="conformance.backoff"):
    """Fails always, with waits that a test can measure."""


@define_job(
    "conformance-backoff", event=Backoff, retry=RetryConfig(max_attempts=3, initial_delay=0.3, factor=3, jitter=False)
)
def back_off(ctx: JobContext[Backoff]) -> None:
    raise TransientError("again")


class RetryAfter(TenantEvent, event="conformance.retryAfter"):
    """Fails once, and says how long to wait."""


@define_job(
    "conformance-retry-after", event=RetryAfter, retry=RetryConfig(max_attempts=2, initial_delay=0, jitter=False)
)
def retry_after(ctx: JobContext[RetryAfter]) -> str:
    if ctx.attempt == 1:
        raise TransientError("busy", retry_after=0.5)
    return "done"


class Slow(TenantEvent, event="conformance.slow"):
    """Takes longer than it may."""


@define_job("conformance-slow", event=Slow, timeout=0.2, retry=ONCE)
def slow(ctx: JobContext[Slow]) -> None:
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        time.sleep(0.01)


class Async(TenantEvent, event="conformance.async"):
    """An `async def` job."""

    seconds: float = 0.01


@define_job("conformance-async", event=Async, timeout=0.3, retry=ONCE)
async def work_async(ctx: JobContext[Async]) -> str:
    await asyncio.sleep(ctx.payload.seconds)
    return current_tenant().id


class Two(TenantEvent, event="conformance.two"):
    """An event with two jobs."""

    second_fails: bool = False


@define_job("conformance-first", event=Two, retry=ONCE)
def first(ctx: JobContext[Two]) -> str:
    return ctx.run_id


@define_job("conformance-second", event=Two, retry=ONCE)
def second(ctx: JobContext[Two]) -> str:
    if ctx.payload.second_fails:
        raise PermanentError("second", code="SECOND_FAILED")
    return ctx.run_id


class Nobody(TenantEvent, event="conformance.nobody"):
    """An event without a job."""


class Sync(TenantEvent, event="conformance.sync"):
    """Waits for a file, or comes to its end at once."""

    shop_id: str | None = None
    path: str = ""


def _sync(ctx: JobContext[Sync]) -> str | None:
    return _wait_for_file(ctx, ctx.payload.path) if ctx.payload.path else ctx.payload.shop_id


@define_job("conformance-sync", event=Sync, limits=[Singleton(key="shopId")], retry=ONCE)
def sync(ctx: JobContext[Sync]) -> str | None:
    return _sync(ctx)


class Refresh(Sync, event="conformance.refresh"):
    """The newest counts."""


@define_job("conformance-refresh", event=Refresh, limits=[Singleton(key="shopId", on_conflict="cancel_old")])
def refresh(ctx: JobContext[Refresh]) -> str | None:
    return _sync(ctx)


class Edited(TenantEvent, event="conformance.edited"):
    """A document changes again and again."""

    doc_id: str
    text: str = ""


@define_job("conformance-edited", event=Edited, limits=[Debounce(0.5, key="docId")], ttl=60)
def edited(ctx: JobContext[Edited]) -> str:
    return ctx.payload.text


class Typed(Edited, event="conformance.typed"):
    """Sends of it never pause, but the run has to come."""


@define_job("conformance-typed", event=Typed, limits=[Debounce(60, max_wait=60, key="docId")])
def typed(ctx: JobContext[Typed]) -> str:
    return ctx.payload.text


class Fed(TenantEvent, event="conformance.fed"):
    feed_id: str


@define_job("conformance-fed", event=Fed, limits=[RateLimit(2, every=3600, key="feedId"), RateLimit(1000, every=3600)])
def fed(ctx: JobContext[Fed]) -> str:
    return ctx.payload.feed_id


class Counted(TenantEvent, event="conformance.counted"):
    basket: str
    number: int
    action: str = ""


def _count(ctx):
    if ctx.payload.action == "fail once" and ctx.attempt == 1:
        raise TransientError("once")
    return [event.number for event in ctx.payloads]


@define_job("conformance-counted", event=Counted, limits=[Batch(3, max_wait=3600, key="basket")], retry=QUICKLY)
def counted(ctx: JobContext[Counted]) -> list[int]:
    return _count(ctx)


class Gathered(Counted, event="conformance.gathered"):
    """Its run comes soon, however many there are."""


@define_job("conformance-gathered", event=Gathered, limits=[Batch(100, max_wait=0.5, key="basket")], retry=QUICKLY)
def gathered(ctx: JobContext[Gathered]) -> list[int]:
    return _count(ctx)
