"""What a day of benchmarks/soak.py consists of: jobs that retry and are limited, a workflow with a child, a schedule.

Each leaves behind that it was done, in a way that shows if it was done twice: a bit in Redis, which tells what it was
before, or a row of its tenant, which commits with the run.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import redis
from shared import client
from soak_day import TWICE, bits_of

from cgk_tasks import (
    AtOnce,
    JobContext,
    RetryConfig,
    Throttle,
    TransientError,
    WorkflowContext,
    define_cron_job,
    define_job,
    define_workflow,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql.postgres import Connection
from cgk_tasks.tenancy import Tenant

if TYPE_CHECKING:
    from sqlalchemy import TextClause

SPREAD_SECONDS = 20
"""Over so many seconds the runs of a tick start."""


@cache
def broker() -> redis.Redis:
    return client()


def done(kind: str, number: int) -> None:
    if broker().setbit(bits_of(kind), number, 1):
        broker().incr(TWICE)


def create_table(_tenant: Tenant, connection: Connection) -> None:
    connection.execute("CREATE TABLE effects (kind text NOT NULL, mark text NOT NULL)")


@cache
def _insert() -> TextClause:
    from sqlalchemy import text

    return text("INSERT INTO effects (kind, mark) VALUES (:kind, :mark)")


def write(ctx: JobContext[Any], kind: str, mark: object) -> None:
    """A row of the tenant, with what the run's end commits."""
    ctx.db.execute(_insert(), {"kind": kind, "mark": str(mark)})


class Numbered(TenantEvent):
    """What all of them have: of each kind the numbers from 0, without a gap."""

    number: int


class Quick(Numbered, event="soak.quick"):
    pass


class Row(Numbered, event="soak.row"):
    pass


class Flaky(Numbered, event="soak.flaky"):
    pass


class Later(Numbered, event="soak.later"):
    pass


class Sync(Numbered, event="soak.sync"):
    shop: str


class Trip(Numbered, event="soak.trip"):
    pass


class Child(Numbered, event="soak.child"):
    pass


EVENTS: Final[dict[str, Callable[..., TenantEvent]]] = {
    "quick": Quick, "row": Row, "flaky": Flaky, "later": Later, "sync": Sync, "trip": Trip,
}  # fmt: skip
"""What is sent, by its kind. Children are made by trips."""


@define_job("soak-quick", event=Quick)
def quick(ctx: JobContext[Quick]) -> None:
    done("quick", ctx.payload.number)


@define_job("soak-row", event=Row)
def row(ctx: JobContext[Row]) -> None:
    write(ctx, "row", ctx.payload.number)


@define_job("soak-flaky", event=Flaky, retry=RetryConfig(max_attempts=5, initial_delay=2.0))
def flaky(ctx: JobContext[Flaky]) -> None:
    """Its first attempt fails after it has written, so that a row too many would show."""
    write(ctx, "flaky", ctx.payload.number)
    if ctx.attempt == 1:
        raise TransientError("The first attempt of each fails.")


@define_job("soak-later", event=Later)
def later(ctx: JobContext[Later]) -> None:
    done("later", ctx.payload.number)


@define_job("soak-sync", event=Sync, limits=[AtOnce(2), AtOnce(1, key="shop"), Throttle(20, every=1)])
def sync(ctx: JobContext[Sync]) -> None:
    done("sync", ctx.payload.number)


@define_workflow("soak-trip", event=Trip)
def trip(wf: WorkflowContext[Trip]) -> None:
    """Two steps, with a sleep and a child between them."""
    number = wf.payload.number
    wf.step("set-out", done, "set-out", number)
    wf.sleep("rest", 3.0)
    wf.invoke("child", Child(tenant_id=wf.tenant_id, number=number))
    wf.step("arrive", done, "arrive", number)


@define_job("soak-child", event=Child)
def child(ctx: JobContext[Child]) -> None:
    done("child", ctx.payload.number)


@define_cron_job("soak-tick", schedule="* * * * *", overlap="allow", spread=SPREAD_SECONDS)
def tick(ctx: JobContext[Any]) -> None:
    assert ctx.scheduled_for is not None
    write(ctx, "tick", ctx.scheduled_for.isoformat())
