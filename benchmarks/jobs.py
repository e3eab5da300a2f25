"""The jobs of our side. Each does what the plain task of the same name does."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from pydantic import JsonValue
from shared import MARKS, client, import_what_jobs_need

from cgk_tasks import AtOnce, JobContext, WorkflowContext, define_job, define_workflow
from cgk_tasks.events import OrderCreated, TenantEvent
from cgk_tasks.sql.postgres import Connection
from cgk_tasks.tenancy import Tenant

if TYPE_CHECKING:
    from sqlalchemy import TextClause

import_what_jobs_need()
broker = client()


@cache
def insert() -> TextClause:
    """Made at first use, as in plain_app: the idle worker does not load SQLAlchemy."""
    from sqlalchemy import text

    return text("INSERT INTO rows (order_id, amount) VALUES (:order_id, :amount)")


class WriteRow(TenantEvent, event="bench.write"):
    order_id: str
    amount: float


class WriteSharedRow(WriteRow, event="bench.write_shared"):
    pass


class Nap(TenantEvent, event="bench.nap"):
    seconds: float


class Weighty(TenantEvent, event="bench.weighty"):
    text: str


class Basket(TenantEvent, event="bench.basket"):
    order: dict[str, JsonValue]


class Limited(TenantEvent, event="bench.limited"):
    number: int


class MarkStart(TenantEvent, event="bench.mark"):
    since: float


class Trip(TenantEvent, event="bench.trip"):
    steps: int


class Alarm(TenantEvent, event="bench.alarm"):
    until: float
    """Seconds since 1970."""


class Called(TenantEvent, event="bench.called"):
    pass


def create_table(_tenant: Tenant, connection: Connection) -> None:
    connection.execute("CREATE TABLE rows (order_id text NOT NULL, amount numeric NOT NULL)")


@define_job("do-nothing", event="order.created")
def do_nothing(_ctx: JobContext[OrderCreated]) -> None:
    pass


@define_job("echo-text", event=Weighty)
def echo_text(ctx: JobContext[Weighty]) -> str:
    return ctx.payload.text


@define_job("echo-order", event=Basket)
def echo_order(ctx: JobContext[Basket]) -> dict[str, JsonValue]:
    return ctx.payload.order


@define_job("write-row", event=WriteRow)
def write_row(ctx: JobContext[WriteRow]) -> None:
    ctx.db.execute(insert(), {"order_id": ctx.payload.order_id, "amount": Decimal(str(ctx.payload.amount))})


@define_job("write-shared-row", event=WriteSharedRow, transaction="shared")
def write_shared_row(ctx: JobContext[WriteSharedRow]) -> None:
    write_row(ctx)


@define_job("nap", event=Nap)
def nap(ctx: JobContext[Nap]) -> None:
    time.sleep(ctx.payload.seconds)


@define_job("limited", event=Limited, limits=[AtOnce(1_000)])
def limited(_ctx: JobContext[Limited]) -> None:
    """A limit that is never reached: what is measured is that there is one."""


@define_job("mark-start", event=MarkStart)
def mark_start(ctx: JobContext[MarkStart]) -> None:
    broker.rpush(MARKS, time.time() - ctx.payload.since)


@define_workflow("trip", event=Trip)
def trip(wf: WorkflowContext[Trip]) -> None:
    """Steps that do nothing, one after another. It writes when it begins and when it has ended."""
    broker.rpush(MARKS, time.time())
    for number in range(wf.payload.steps):
        wf.step(f"step-{number}", int, number)
    broker.rpush(MARKS, time.time())


@define_workflow("alarm", event=Alarm)
def alarm(wf: WorkflowContext[Alarm]) -> None:
    """Writes how late it has woken."""
    wf.sleep_until("night", datetime.fromtimestamp(wf.payload.until, UTC))
    broker.rpush(MARKS, time.time() - wf.payload.until)


@define_workflow("called", event=Called)
def called(wf: WorkflowContext[Called]) -> None:
    """Writes how long a signal took to come."""
    signal = wf.wait_for_signal("go", timeout=3600)
    broker.rpush(MARKS, time.time() - signal["at"])
