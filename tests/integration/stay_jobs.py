"""Workflows with something to undo, for the worker of the tests."""

import os
import random
import signal
import time
from contextlib import suppress
from typing import Any

from sqlalchemy import text

from cgk_tasks import JobContext, PermanentError, RetryConfig, WorkflowContext, define_job, define_workflow
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql import door
from tests.integration.workflow_jobs import dies_after, note, noted


class Stay(TenantEvent, event="test.stay"):
    """how: what happens after the bookings. dies_after: statements, once; -1 for any number, twice."""

    notes: str = ""
    how: str = "fail"
    bookings: int = 2
    dies_after: int = 0


class Tour(TenantEvent, event="test.tour"):
    """Stays as children, while it has something to undo itself."""

    notes: str


def write(wf: WorkflowContext[Any], what: str) -> None:
    wf.db.execute(
        text("INSERT INTO orders (order_id, run_id, note) VALUES ('stay', :run, :note)"),
        {"run": wf.run_id, "note": what},
    )


@define_workflow("stay", event=Stay, retry=RetryConfig(max_attempts=2, initial_delay=0.05))
def stay(wf: WorkflowContext[Stay]) -> None:
    wish = wf.payload
    if wish.dies_after and len(noted(wish.notes)) < (2 if wish.dies_after < 0 else 1):
        note(wish.notes, "armed")
        door.observe(dies_after(wish.dies_after if wish.dies_after > 0 else random.randint(1, 20)))
    for number in range(wish.bookings):
        wf.step(f"book-{number}", write, wf, f"book {number}")
        wf.compensate(f"cancel-{number}", write, wf, f"cancel {number}")
    if wish.how == "wait":
        wf.sleep("night", 3600)
    if wish.how == "run":
        note(wish.notes, "on")
        wf.step("walk", time.sleep, 30)
    if wish.how == "broken":
        wf.compensate("broken", fail, "broken")
    fail("no room")


class StubbornStay(TenantEvent, event="test.stubbornStay"):
    """Does not end when its time is over, and its process is killed."""


@define_workflow("stubborn-stay", event=StubbornStay, timeout=3, retry=RetryConfig(max_attempts=1))
def stubborn_stay(wf: WorkflowContext[StubbornStay]) -> None:
    wf.step("book-0", write, wf, "book 0")
    wf.compensate("cancel-0", write, wf, "cancel 0")
    wf.step("stay-for-ever", stay_for_ever)


def stay_for_ever() -> None:
    while True:
        with suppress(BaseException):
            time.sleep(30)


@define_workflow("tour", event=Tour)
def tour(wf: WorkflowContext[Tour]) -> None:
    wf.compensate("end", write, wf, "end")
    wf.gather("stays", [wf.child(Stay(tenant_id=wf.tenant_id, how="wait")) for _ in range(2)])


def fail(message: str) -> None:
    raise PermanentError(message, "NO_ROOM")


class Count(TenantEvent, event="test.count"):
    number: int = 0
    until: int = 3


@define_workflow("count", event=Count)
def count(wf: WorkflowContext[Count]) -> int:
    """Goes on as a new run, and in the last one waits for a signal that the first has got."""
    wf.step("write", write, wf, f"{wf.payload.number}")
    if wf.payload.number < wf.payload.until:
        wf.continue_as_new(Count(tenant_id=wf.tenant_id, number=wf.payload.number + 1, until=wf.payload.until))
    found: int = wf.wait_for_signal("stop")
    return wf.step("end", int, found)


class Counts(TenantEvent, event="test.counts"):
    """Invokes what would continue as a new run."""


@define_workflow("counts", event=Counts)
def counts(wf: WorkflowContext[Counts]) -> None:
    wf.invoke("count", "test.count")


class Chore(TenantEvent, event="test.chore"):
    notes: str
    how: str = ""


@define_job("chore", event=Chore, retry=RetryConfig(max_attempts=3, initial_delay=0.05))
def chore(ctx: JobContext[Chore]) -> int:
    """A plain job, whose steps write with sessions of their own; the job itself writes with one that fails with it."""

    def book(what: str) -> str:
        insert(ctx, what)
        return what

    ctx.step("one", book, "one")
    ctx.compensate("undo", book, "undone")
    insert(ctx, f"attempt {ctx.attempt}")
    note(ctx.payload.notes, "on")
    if ctx.payload.how == "die" and len(noted(ctx.payload.notes)) == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    if ctx.payload.how == "fail":
        raise PermanentError("over", "OVER")
    if len(noted(ctx.payload.notes)) < 2:
        raise OSError("away")
    ctx.step("two", book, "two")
    return len(noted(ctx.payload.notes))


def insert(ctx: JobContext[Chore], what: str) -> None:
    ctx.db.execute(
        text("INSERT INTO orders (order_id, run_id, note) VALUES ('stay', :run, :note)"),
        {"run": ctx.run_id, "note": what},
    )
