"""Jobs whose idempotency is to be proved: good ones, and ones that do something twice."""

import asyncio
import os

import psycopg
import requests
from pydantic import BaseModel
from sqlalchemy import text

from cgk_tasks import (
    AsyncWorkflowContext,
    JobContext,
    RetryConfig,
    WorkflowContext,
    define_job,
    define_workflow,
    send_job,
    tenant_session,
)
from cgk_tasks.events import TenantEvent
from cgk_tasks.sql.urls import parameters
from cgk_tasks.workflows.effects import Reconciled

COUNTED: list[str] = []
"""What jobs have counted in this process."""

PAID: dict[str, str] = {}
"""A payment provider that knows payments by key."""


class ProvenOrder(TenantEvent, event="test.provenOrder"):
    order_id: str
    url: str = ""


class ProvenMail(TenantEvent, event="test.provenMail"):
    order_id: str


class Approval(BaseModel):
    by: str


def insert(session, note: str) -> None:
    session.execute(text("INSERT INTO orders (order_id, note) VALUES ('o-1', :note)"), {"note": note})


@define_job("proven.recorded", event=ProvenOrder)
def recorded(ctx: JobContext[ProvenOrder]) -> None:
    insert(ctx.db, "recorded")
    send_job(ProvenMail(tenant_id=ctx.tenant_id, order_id=ctx.payload.order_id), session=ctx.db)


@define_job("proven.mail", event=ProvenMail)
def mail(ctx: JobContext[ProvenMail]) -> str:
    return "sent"


@define_job("proven.sends-outside", event=ProvenOrder)
def sends_outside(ctx: JobContext[ProvenOrder]) -> None:
    send_job(ProvenMail(tenant_id=ctx.tenant_id, order_id=ctx.payload.order_id))


@define_job("proven.posts", event=ProvenOrder)
def posts(ctx: JobContext[ProvenOrder]) -> None:
    requests.post(ctx.payload.url, json={"order": ctx.payload.order_id}, timeout=10).raise_for_status()


@define_job("proven.posts-with-key", event=ProvenOrder)
def posts_with_key(ctx: JobContext[ProvenOrder]) -> None:
    requests.post(ctx.payload.url, headers={"Idempotency-Key": ctx.run_id}, timeout=10).raise_for_status()


@define_job("proven.own-connection", event=ProvenOrder)
def own_connection(ctx: JobContext[ProvenOrder]) -> None:
    with psycopg.connect(**parameters(os.environ["CGK_DATABASE_URL"])) as connection:
        connection.execute(f"INSERT INTO \"{ctx.tenant.schema_name}\".orders (order_id) VALUES ('o-1')")


@define_job("proven.counts", event=ProvenOrder)
def counts(ctx: JobContext[ProvenOrder]) -> None:
    COUNTED.append(ctx.payload.order_id)


@define_job("proven.adds-up", event=ProvenOrder)
def adds_up(ctx: JobContext[ProvenOrder]) -> None:
    """Changes a row, and so no number of rows, in a transaction of its own."""
    with psycopg.connect(**parameters(os.environ["CGK_DATABASE_URL"])) as connection:
        connection.execute(f'UPDATE "{ctx.tenant.schema_name}".orders SET amount = amount + 1')


@define_job("proven.marks-first", event=ProvenOrder)
def marks_first(ctx: JobContext[ProvenOrder]) -> None:
    """Says that it is done before it is."""
    if ctx.payload.order_id + ctx.tenant_id in COUNTED:
        return
    COUNTED.append(ctx.payload.order_id + ctx.tenant_id)
    insert(ctx.db, "recorded")


@define_job("proven.catches-all", event=ProvenOrder)
def catches_all(ctx: JobContext[ProvenOrder]) -> None:
    """What its process dies of does not matter to it."""
    try:
        ctx.step("write", lambda: insert(ctx.db, "write"))
    except BaseException:
        insert(ctx.db, "it failed")


@define_job("proven.writes-at-last", event=ProvenOrder)
def writes_at_last(ctx: JobContext[ProvenOrder]) -> None:
    try:
        ctx.step("write", lambda: insert(ctx.db, "write"))
    finally:
        with tenant_session() as session:
            insert(session, "at last")


@define_job("proven.limited", event=ProvenOrder, concurrency=1)
def limited(ctx: JobContext[ProvenOrder]) -> None:
    insert(ctx.db, "alone")


@define_job("proven.fails", event=ProvenOrder)
def fails(ctx: JobContext[ProvenOrder]) -> None:
    raise ValueError("no such order")


@define_job("proven.once", event=ProvenOrder, redelivery=False)
def once(ctx: JobContext[ProvenOrder]) -> None: ...


def pay(key: str) -> str:
    PAID[key] = f"paid {len(PAID)}"
    COUNTED.append("paid")
    return "paid"


def find_payment(key: str) -> str | Reconciled:
    return "paid" if key in PAID else Reconciled.NOT_DONE


@define_workflow("proven.journey", event=ProvenOrder)
def journey(wf: WorkflowContext[ProvenOrder]) -> str:
    wf.step("book", lambda: insert(wf.db, "booked"))
    paid = wf.effect("pay", pay, reconcile=find_payment)
    wf.sleep("weeks", 14 * 24 * 3600)
    approval = wf.wait_for_signal("approve", Approval)
    wf.invoke("mail", ProvenMail(tenant_id=wf.tenant_id, order_id=wf.payload.order_id))
    wf.parallel("both", left=lambda: insert(wf.db, "left"), right=lambda: insert(wf.db, "right"))
    return f"{paid}, approved by {approval.by}"


@define_workflow("proven.asks", event=ProvenOrder)
def asks(wf: WorkflowContext[ProvenOrder]) -> str:
    return wf.effect("pay", pay)


@define_workflow("proven.unanswered", event=ProvenOrder, retry=RetryConfig(initial_delay=3600, max_delay=3600))
def unanswered(wf: WorkflowContext[ProvenOrder]) -> str:
    """Pays, and is not told so at first: it is looked for later."""

    def pay_without_answer(key: str) -> str:
        pay(key)
        raise ConnectionError

    return wf.effect("pay", pay_without_answer, reconcile=find_payment)


@define_workflow("proven.posts-in-step", event=ProvenOrder)
def posts_in_step(wf: WorkflowContext[ProvenOrder]) -> None:
    wf.step("look", lambda: "seen")
    wf.step("tell", lambda: requests.post(wf.payload.url, timeout=10).status_code)


@define_workflow("proven.posts-in-effect", event=ProvenOrder)
def posts_in_effect(wf: WorkflowContext[ProvenOrder]) -> None:
    def tell(key: str) -> int:
        return requests.post(wf.payload.url, headers={"Idempotency-Key": key}, timeout=10).status_code

    wf.effect("tell", tell, reconcile=lambda _key: Reconciled.NOT_DONE)


@define_workflow("proven.coroutine", event=ProvenOrder)
async def coroutine(wf: AsyncWorkflowContext[ProvenOrder]) -> None:
    def write(note: str) -> None:
        insert(wf.db, note)

    await wf.step("one", write, "one")
    await wf.step("two", write, "two")


@define_workflow("proven.gathered", event=ProvenOrder)
async def gathered(wf: AsyncWorkflowContext[ProvenOrder]) -> None:
    """Branches that go on at the same time, while another one waits."""

    def write(note: str) -> None:
        insert(wf.db, note)

    await asyncio.gather(
        wf.step("left", write, "left"), wf.step("right", write, "right"), wf.sleep("pause", 60),
        wf.effect("pay", pay, reconcile=find_payment),
    )  # fmt: skip
    await wf.step("after", write, "after")
