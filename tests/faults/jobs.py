"""Jobs for the fault tests. Each leaves its marks in the journal's folder, so that a test sees what really ran."""

import fcntl
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import text

from cgk_tasks import Batch, JobContext, RetryConfig, define_job
from cgk_tasks.events import TenantEvent

PATIENT = RetryConfig(max_attempts=10, initial_delay=0.1, max_delay=0.5)


class Work(TenantEvent, event="fault.work"):
    """Work for some seconds; then, unless told otherwise, write one row with `ctx.db`."""

    journal: str
    number: int = 0
    seconds: float = 0.0
    writes: bool = True


class Collected(TenantEvent, event="fault.collected"):
    """One of those that a run takes in."""

    number: int
    seconds: float = 0.0


@define_job("fault-collected", event=Collected, limits=[Batch(10, max_wait=0.3)], retry=PATIENT)
def collected(ctx: JobContext[Collected]) -> list[int]:
    time.sleep(ctx.payload.seconds)
    return [event.number for event in ctx.payloads]


class Steps(TenantEvent, event="fault.steps"):
    """Work for some seconds in many short steps of Python."""

    journal: str
    seconds: float


class Query(TenantEvent, event="fault.query"):
    """Let PostgreSQL sleep, then sleep in the open transaction."""

    in_postgres: float = 0.0
    in_job: float = 0.0


class Poison(TenantEvent, event="fault.poison"):
    """Kills its process, every time."""

    journal: str


@contextmanager
def noted(run_id: str, journal: str) -> Iterator[None]:
    """Note start and end. The lock goes with the process however it ends: who does not get it is the second one."""
    with (Path(journal) / run_id).open("a") as marks:
        try:
            fcntl.flock(marks, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            marks.write(f"overlap {os.getpid()}\n")
        marks.write(f"start {os.getpid()}\n")
        marks.flush()
        yield
        marks.write(f"end {os.getpid()}\n")
        marks.flush()


@define_job("fault-work", event=Work, retry=PATIENT)
def work(ctx: JobContext[Work]) -> int:
    with noted(ctx.run_id, ctx.payload.journal):
        if ctx.payload.writes:
            ctx.db.execute(
                text("INSERT INTO orders (order_id, run_id) VALUES (:number, :run_id)"),
                {"number": str(ctx.payload.number), "run_id": ctx.run_id},
            )
        time.sleep(ctx.payload.seconds)
    return ctx.payload.number


@define_job("fault-steps", event=Steps, retry=PATIENT)
def steps(ctx: JobContext[Steps]) -> None:
    with noted(ctx.run_id, ctx.payload.journal):
        for _ in range(int(ctx.payload.seconds / 0.02)):
            time.sleep(0.02)


@define_job("fault-query", event=Query, retry=RetryConfig(max_attempts=1))
def query(ctx: JobContext[Query]) -> None:
    ctx.db.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": ctx.payload.in_postgres})
    time.sleep(ctx.payload.in_job)


@define_job("fault-poison", event=Poison, retry=PATIENT)
def poison(ctx: JobContext[Poison]) -> None:
    with noted(ctx.run_id, ctx.payload.journal):
        os.kill(os.getpid(), signal.SIGKILL)


@define_job("fault-order", event="order.created")
def order(ctx: JobContext) -> str:
    ctx.db.execute(
        text("INSERT INTO orders (order_id, run_id) VALUES (:order_id, :run_id)"),
        {"order_id": ctx.payload.order_id, "run_id": ctx.run_id},
    )
    return ctx.payload.order_id
