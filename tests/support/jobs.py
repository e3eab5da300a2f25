"""Jobs that the worker of the tests imports."""

import asyncio
import os
import signal
import time
from pathlib import Path

from sqlalchemy import text

from cgk_tasks import JobContext, PermanentError, RetryConfig, RetryLater, TransientError, define_job
from cgk_tasks.events import TenantEvent

QUICK = RetryConfig(max_attempts=3, initial_delay=0.05, max_delay=0.2)


def note(ctx: JobContext, note: str = "") -> None:
    """A row in the tenant's own orders table."""
    ctx.db.execute(
        text("INSERT INTO orders (order_id, run_id, note) VALUES (:order_id, :run_id, :note)"),
        {"order_id": getattr(ctx.payload, "order_id", ""), "run_id": ctx.run_id, "note": note},
    )


class Behave(TenantEvent, event="test.behave"):
    """Asks the test worker's job for something."""

    action: str
    argument: str = ""


@define_job("test-behave", event=Behave, retry=QUICK)
def behave(ctx: JobContext[Behave]) -> object:
    return ACTIONS[ctx.payload.action](ctx, ctx.payload.argument)


def _fail_then_succeed(ctx, argument):
    if ctx.attempt <= int(argument):
        raise TransientError(f"attempt {ctx.attempt} fails")
    return ctx.attempt


def _snooze_once(ctx, argument):
    flag = Path(argument)
    if not flag.exists():
        flag.touch()
        raise RetryLater(0.05)
    return ctx.attempt


def _fail(ctx, argument):
    raise ValueError(argument)


def _fail_permanently(ctx, argument):
    raise PermanentError("no such account", code="ACCOUNT_NOT_FOUND")


def _write_and_fail(ctx, argument):
    note(ctx, argument)
    raise TransientError("after the write")


def _kill_self_once(ctx, argument):
    flag = Path(argument)
    note(ctx, "killed")
    if not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def _poison(ctx, argument):
    os.kill(os.getpid(), signal.SIGKILL)


def _sleep(ctx, argument):
    time.sleep(float(argument))
    return "slept"


def _wait_for_file(ctx, argument):
    """Runs until the test makes the file; leaves `<file>.started` behind."""
    path = Path(argument)
    with path.with_suffix(".started").open("a") as started:
        started.write(f"{ctx.run_id} {os.getpid()}\n")
    while not path.exists():
        time.sleep(0.01)
    return "released"


def _note_slowly(ctx, argument):
    time.sleep(0.05)
    note(ctx, argument)


def _describe(ctx, argument):
    return {
        "job_id": ctx.job_id, "run_id": ctx.run_id, "attempt": ctx.attempt, "max_attempts": ctx.max_attempts,
        "tenant": ctx.tenant_id, "event": ctx.event, "queued": ctx.queued_at, "started": ctx.started_at,
        "payload": type(ctx.payload).__name__,
    }  # fmt: skip


def _pages(ctx, argument):
    """Writes pages 1 to 3, and fails once in the middle of the second."""
    for page in range((ctx.cursor or 0) + 1, 4):
        note(ctx, f"{argument}-{page}")
        if page == 2 and ctx.attempt == 1:
            raise TransientError("in the middle of page 2")
        ctx.checkpoint(page)
    return ctx.attempt


ACTIONS = {
    "pages": _pages,
    "echo": lambda ctx, argument: argument,
    "describe": _describe,
    "fail": _fail,
    "fail_permanently": _fail_permanently,
    "fail_then_succeed": _fail_then_succeed,
    "snooze_once": _snooze_once,
    "note": note,
    "note_slowly": _note_slowly,
    "write_and_fail": _write_and_fail,
    "kill_self_once": _kill_self_once,
    "poison": _poison,
    "sleep": _sleep,
    "wait_for_file": _wait_for_file,
    "not_json": lambda ctx, argument: object(),
    "loop": lambda ctx, argument: id(asyncio.get_event_loop_policy()),
}


class Slow(TenantEvent, event="test.slow"):
    """A job with a short time limit."""

    seconds: float
    stubborn: bool = False


@define_job("test-slow", event=Slow, timeout=0.3, retry=RetryConfig(max_attempts=1))
def slow(ctx: JobContext[Slow]) -> str:
    give_up = time.monotonic() + ctx.payload.seconds
    while time.monotonic() < give_up:
        try:
            time.sleep(0.05)
        except Exception:
            if not ctx.payload.stubborn:
                raise
    return "finished"


class AsyncWork(TenantEvent, event="test.async"):
    """An `async def` job."""

    seconds: float = 0.01


_loops: list[int] = []


@define_job("test-async", event=AsyncWork, timeout=1.0, retry=RetryConfig(max_attempts=1))
async def async_work(ctx: JobContext[AsyncWork]) -> dict:
    await asyncio.sleep(ctx.payload.seconds)
    _loops.append(id(asyncio.get_running_loop()))
    return {"tenant": ctx.tenant_id, "loops": len(set(_loops))}


class OneAtATime(TenantEvent, event="test.one"):
    """At most one of a tenant runs at once."""

    path: str


@define_job("test-one", event=OneAtATime, concurrency=1)
def one_at_a_time(ctx: JobContext[OneAtATime]) -> int:
    """How many others are on; leaves its name in the folder while it runs."""
    mine = Path(ctx.payload.path) / ctx.run_id
    mine.touch()
    time.sleep(0.2)
    others = len(list(mine.parent.iterdir())) - 1
    mine.unlink()
    return others


class TwoJobs(TenantEvent, event="test.two"):
    """An event with two jobs."""

    second_fails: bool = False


@define_job("test-first", event=TwoJobs, retry=QUICK, ttl=3600)
def first(ctx: JobContext[TwoJobs]) -> str:
    return "first"


@define_job("test-second", event=TwoJobs, retry=RetryConfig(max_attempts=1))
def second(ctx: JobContext[TwoJobs]) -> str:
    if ctx.payload.second_fails:
        raise ValueError("second")
    return "second"


class Nobody(TenantEvent, event="test.nobody"):
    """An event without a job."""
