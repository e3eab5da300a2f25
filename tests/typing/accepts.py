"""Every line of this file is right, and a strict type checker must agree."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, assert_type

from cgk_tasks import AtOnce, Batch, JobContext, WebhookDelivery, define_cron_job, define_job, define_webhook
from cgk_tasks.catalog.payloads import OrderCreatedPayload
from cgk_tasks.client.api import (
    asend_job,
    atrigger_and_wait,
    cancel_job,
    cancel_run,
    get_job_status,
    get_run,
    replay_run,
    retry_job,
    schedule_job,
    send_job,
    send_jobs,
    trigger_and_wait,
)
from cgk_tasks.client.provider import WaitResult
from cgk_tasks.events import (
    GoogleFeedImageOptimize,
    ImageOptions,
    JobEvent,
    JobPayload,
    OnboardingCheck,
    OnDemand,
    OrderCreated,
    OrderDelivered,
    ReviewModerated,
    TenantEvent,
    get_event,
    parse_event,
)
from cgk_tasks.runs.models import RunHandle, RunStatus
from cgk_tasks.tasks import order_created, survey_low_nps

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


class InvoicePaid(TenantEvent, event="invoice.paid"):
    """An event of an application's own."""

    invoice_id: str
    days_late: int = 0


# Payloads in wire form
assert_type(send_job("order.created", {"tenantId": "acme", "orderId": "1", "totalAmount": 19.99}), RunHandle)
send_job("order.created", {"tenantId": "acme", "orderId": "1", "totalAmount": 20, "currency": None})
send_job("order.delivered", {"tenantId": "acme", "orderId": "1", "deliveredAt": NOON})
send_job("order.delivered", {"tenantId": "acme", "orderId": "1", "deliveredAt": "2026-01-31T12:00:00Z"})
send_job("email.send", {"tenantId": "acme", "to": "a@b.c", "templateId": "t", "data": {"name": "Ann", "n": 1}})
send_job("review.reminder.scheduled", {"tenantId": "acme", "orderId": "1", "reminderNumber": 1})
send_job(
    "googleFeed.imageOptimize",
    {"tenantId": "acme", "productId": "p", "imageUrl": "u", "options": {"format": "png"}},
)
payload: OrderCreatedPayload = {"tenantId": "acme", "orderId": "1", "totalAmount": Decimal("19.99")}
send_job("order.created", payload, delay=timedelta(days=400), idempotency_key="order-1", priority=9)

# Models
order = OrderCreated(tenant_id="acme", order_id="1", total_amount=Decimal("19.99"))
send_job("order.created", order)
send_job(order, queue="orders", max_attempts=5)
send_job(InvoicePaid(tenant_id="acme", invoice_id="7"))
send_job(InvoicePaid(tenant_id="acme", invoice_id="7", days_late=3), run_at=NOON, expires=NOON)
schedule_job(OrderDelivered(tenant_id="acme", order_id="1", delivered_at=NOON), delay=30)
send_jobs([order, InvoicePaid(tenant_id="acme", invoice_id="7")])
ReviewModerated(
    tenant_id="acme",
    review_id="r",
    action="approve",
    reviewer_email="a@b.c",
    reviewer_name=None,
    product_title=None,
)
GoogleFeedImageOptimize(tenant_id="acme", product_id="p", image_url="u", options=ImageOptions(format="png", quality=80))

# Waiting, runs, tasks
assert_type(trigger_and_wait(order, timeout=5), WaitResult)
assert_type(get_run("run"), RunStatus)
assert_type(cancel_run("run"), RunStatus)
assert_type(replay_run("run"), RunHandle)
assert_type(replay_run("run", from_step="charge"), RunHandle)
assert_type(get_job_status("run"), RunStatus)
assert_type(cancel_job("run"), RunStatus)
assert_type(retry_job("run"), RunHandle)
order_created.delay(tenant_id="acme", order_id="1", total_amount=19.99)
order_created.apply_async(kwargs={"tenant_id": "acme", "order_id": "1", "total_amount": 1}, countdown=5)
survey_low_nps.delay(tenant_id="acme", response_id="r", survey_id="s", nps_score=3, customer_id=None)


# Jobs
@define_job("paid", event=InvoicePaid, timeout=30)
def paid(ctx: JobContext[InvoicePaid]) -> str:
    return ctx.payload.invoice_id


@define_job("paid-in-batches", event=InvoicePaid, limits=[Batch(100, max_wait=10), AtOnce(5)], ttl=timedelta(hours=1))
def paid_in_batches(ctx: JobContext[InvoicePaid]) -> list[str]:
    return [event.tenant_id for event in ctx.payloads]


@define_job("paid-async", event=InvoicePaid)
async def paid_async(ctx: JobContext[InvoicePaid]) -> int:
    return ctx.payload.days_late


@define_job("of-several", event=OrderCreated)
def of_several(ctx: JobContext[OrderCreated | OrderDelivered]) -> None: ...


@define_job("of-any", event=OrderCreated)
def of_any(ctx: JobContext[TenantEvent]) -> None: ...


@define_job("untold", event=OrderCreated)
def untold(ctx: JobContext[Any]) -> None: ...


@define_job("by-name", event="order.created")
def by_name(ctx: JobContext[OrderCreated]) -> None: ...


@define_job("analytics-send-ga4-purchase")
def of_the_catalog(ctx: JobContext[OrderCreated]) -> None: ...


@define_job("commerce-sync-order")
def on_demand(ctx: JobContext[OnDemand]) -> object:
    return (ctx.payload.data or {})["orderId"]


send_job("job.commerceSyncOrder", {"tenantId": "acme", "data": {"orderId": "o-1"}})


@define_cron_job("onboarding-check")
def by_the_catalogs_clock(ctx: JobContext[OnboardingCheck]) -> None: ...


@define_cron_job("nightly", schedule="0 3 * * *")
def nightly(ctx: JobContext[Any]) -> None: ...


@define_cron_job("daily", schedule="0 4 * * *", event=InvoicePaid, payload={"invoiceId": "7"})
def daily(ctx: JobContext[InvoicePaid]) -> None: ...


# The catalog
name: JobEvent = "order.created"
one: JobPayload = order
assert_type(get_event(name), type[TenantEvent])
assert_type(parse_event(name, {"tenant_id": "acme", "order_id": "1", "total_amount": 1}), TenantEvent)
assert_type(OrderCreated.event_name, str)
assert_type(order.total_amount, Decimal)


async def in_an_asyncio_application() -> None:
    assert_type(await asend_job("ab.testStarted", {"tenantId": "acme", "testId": "t"}), RunHandle)
    assert_type(await atrigger_and_wait("ab.testStarted", {"tenantId": "acme", "testId": "t"}), WaitResult)


# Sources of webhooks
@define_webhook(
    "orders", scheme="shopify", secret="SHOPIFY_SECRET", event=OrderCreated, tenant=lambda delivery: delivery.id
)
def shopify_order(delivery: WebhookDelivery) -> dict[str, Any] | None:
    return {"orderId": delivery.payload["id"]} if delivery.payload else None


@define_webhook("pushes", scheme="github", secret=lambda tenant_id: [tenant_id or ""])
def pushed(delivery: WebhookDelivery) -> list[OrderCreated]:
    return [OrderCreated(tenant_id="acme", order_id=delivery.id, total_amount=Decimal(1))]
