"""Workflows that invoke other runs, for the worker of the tests."""

import asyncio
import os
import random
import signal
import time
from pathlib import Path

from sqlalchemy import text

from cgk_tasks import (
    AsyncWorkflowContext,
    JobContext,
    PermanentError,
    RetryConfig,
    WorkflowContext,
    define_job,
    define_workflow,
)
from cgk_tasks.errors import ChildFailedError
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql import door
from tests.integration.workflow_jobs import dies_after, note, noted


class Fair(TenantEvent, event="test.fair"):
    """number: how many stalls. how: what the first of them does."""

    number: int = 1
    how: str = ""
    on_failure: str = "fail"
    is_last_late: bool = False
    notes: str = ""


class Stall(TenantEvent, event="test.stall"):
    number: int = 0
    how: str = ""
    fair: str = ""
    notes: str = ""


class Unserved(TenantEvent, event="test.unserved"):
    """No worker has a job for it."""


class Nest(TenantEvent, event="test.nest"):
    depth: int
    delay: float | None = None


class DyingFair(TenantEvent, event="test.dyingFair"):
    notes: str
    dies_after: int
    number: int = 3


class BrokenFair(TenantEvent, event="test.brokenFair"):
    """One of its branches fails, while another one waits for a child."""

    undoes: bool = False
    dies: bool = False


def write(
    ctx: JobContext[Stall] | WorkflowContext[DyingFair] | AsyncWorkflowContext[BrokenFair], run_id: str, what: str
) -> None:
    ctx.db.execute(
        text("INSERT INTO orders (order_id, run_id, note) VALUES ('fair', :run, :note)"), {"run": run_id, "note": what}
    )


@define_job("stall", event=Stall, retry=RetryConfig(max_attempts=2, initial_delay=0.05))
def stall(ctx: JobContext[Stall]) -> int:
    wish = ctx.payload
    if wish.how == "fail":
        raise PermanentError("sold out", "SOLD_OUT")
    if wish.how == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if wish.how == "wait":
        while not Path(wish.notes).exists():
            time.sleep(0.02)
    if wish.fair:
        write(ctx, wish.fair, str(wish.number))
    return wish.number * 10


@define_workflow("fair", event=Fair)
def fair(wf: WorkflowContext[Fair]) -> object:
    wish = wf.payload
    children = [
        wf.child(Stall(tenant_id=wf.tenant_id, number=number, how="" if number else wish.how, notes=wish.notes))
        for number in range(wish.number)
    ]
    if wish.how == "unserved":
        children[0] = wf.child("test.unserved")
    elif wish.how == "expire":
        children[0] = wf.child("test.stall", delay=60, expires=0.1)
    elif wish.how == "late":
        children[0] = wf.child("test.stall", delay=3600)
    if wish.is_last_late:
        children[-1] = wf.child("test.stall", delay=3600)
    ends = wf.gather("stalls", children, on_failure=wish.on_failure)  # type: ignore[arg-type]
    return [end.code if isinstance(end, ChildFailedError) else end for end in ends]


@define_workflow("broken-fair", event=BrokenFair)
async def broken_fair(wf: AsyncWorkflowContext[BrokenFair]) -> None:
    if wf.payload.undoes:
        await wf.compensate("undo", lambda: write(wf, wf.run_id, "undone"))
    late = asyncio.ensure_future(wf.invoke("late", "test.stall", delay=3600))
    await wf.invoke("early", "test.stall")
    if wf.payload.dies:
        os.kill(os.getpid(), signal.SIGKILL)
    late.cancel()
    raise PermanentError("the tent is gone", "NO_TENT")


@define_workflow("nest", event=Nest, concurrency=1)
def nest(wf: WorkflowContext[Nest]) -> int:
    """Invokes itself, while only one run of it may be on. The deepest is delayed."""
    if not wf.payload.depth:
        return 0
    below = Nest(tenant_id=wf.tenant_id, depth=wf.payload.depth - 1, delay=wf.payload.delay)
    found: int = wf.invoke("below", below, delay=None if below.depth else below.delay)
    return found + 1


@define_workflow("dying-fair", event=DyingFair)
def dying_fair(wf: WorkflowContext[DyingFair]) -> list[int]:
    """Its process dies once, after so many statements; 0 for any number, in each of its first two legs."""
    wish = wf.payload
    most = 1 if wish.dies_after else 2
    if len(noted(wish.notes)) < most:
        note(wish.notes, "armed")
        door.observe(dies_after(wish.dies_after or random.randint(1, 12)))
    first: int = wf.invoke("first", "test.stall", {"number": 9, "fair": wf.run_id})
    children = [wf.child("test.stall", {"number": number, "fair": wf.run_id}) for number in range(wish.number)]
    rest = wf.gather("rest", children)
    wf.step("close", lambda: write(wf, wf.run_id, "close"))
    return [first, *rest]
