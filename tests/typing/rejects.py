"""Every line marked with `# E:` is wrong, and a type checker must say so, with the error code that is named."""

from decimal import Decimal
from typing import Final, Literal

from cgk_tasks import JobContext, define_cron_job, define_job
from cgk_tasks.catalog.payloads import OrderCreatedPayload
from cgk_tasks.client.api import asend_job, schedule_job, send_job, trigger_and_wait
from cgk_tasks.events import JobEvent, OrderCreated, OrderDelivered, ReviewModerated, TenantEvent
from cgk_tasks.tasks import order_created

PRICE: Final = Decimal("19.99")


class InvoicePaid(TenantEvent, event="invoice.paid"):
    invoice_id: str


# Payloads in wire form
send_job("order.created", {"orderId": "1", "totalAmount": 19.99})  # E: arg-type
send_job("order.created", {"tenantId": "acme", "orderId": 1, "totalAmount": 19.99})  # E: arg-type
send_job("order.created", {"tenantId": "acme", "orderId": "1", "totalAmount": "19.99"})  # E: arg-type
send_job("order.created", {"tenantId": "a", "orderId": "1", "totalAmount": 1, "sum": 1})  # E: arg-type
send_job("order.created", {"tenantId": "acme", "order_id": "1", "totalAmount": 1})  # E: arg-type
send_job("order.create", {"tenantId": "acme", "orderId": "1", "totalAmount": 1})  # E: arg-type
send_job("order.created")  # E: call-overload
send_job("ab.testStarted", {"tenantId": "acme", "testId": "t"}, delay="5 s")  # E: call-overload
send_job("ab.testStarted", {"tenantId": "acme", "testId": "t"}, prio=1)  # E: call-overload
send_job("survey.digest", {"tenantId": "acme", "frequency": "yearly"})  # E: arg-type
schedule_job("order.created", {"orderId": "1", "totalAmount": 1}, delay=5)  # E: arg-type
trigger_and_wait("order.created", {"orderId": "1", "totalAmount": 1})  # E: arg-type
send_job("order.created", {})  # E: arg-type
send_job("invoice.paid", {"tenantId": "acme", "invoiceId": "7"})  # E: arg-type
payload: OrderCreatedPayload = {"orderId": "1", "totalAmount": 1}  # E: typeddict-item

# Models
OrderCreated(order_id="1", total_amount=PRICE)  # E: call-arg
OrderCreated(tenant_id="acme", total_amount=PRICE)  # E: call-arg
OrderCreated(tenant_id="acme", order_id=1, total_amount=PRICE)  # E: arg-type
OrderCreated(tenant_id="acme", order_id="1", total_amount=PRICE, orderID="1")  # E: call-arg
OrderDelivered(tenant_id="acme", order_id="1", delivered_at=1700000000)  # E: arg-type
ReviewModerated(tenant_id="acme", review_id="r", action="approve", reviewer_email="e")  # E: call-arg
InvoicePaid(invoice_id="7")  # E: call-arg
send_job("order.created", OrderDelivered(tenant_id="acme", order_id="1"))  # E: call-overload
OrderCreated(tenant_id="acme", order_id="1", total_amount=PRICE).order_id = "2"  # E: misc

# Tasks
order_created.delay()  # E: call-arg
order_created.delay(order_id="1", total_amount=1)  # E: call-arg
order_created.delay(tenant_id="acme", order_id=1, total_amount=1)  # E: arg-type
order_created.delay(tenant_id="acme", order_id="1", total_amount=1, sum=1)  # E: call-arg
order_created.delay("acme", "1", 1)  # E: call-arg
order_created.apply_async(kwargs={"order_id": "1", "total_amount": 1})  # E: arg-type


# Jobs
@define_job("wrong", event=InvoicePaid)  # E: arg-type
def wrong(ctx: JobContext[OrderCreated]) -> None: ...


@define_job("wrong-too", event=OrderCreated)  # E: arg-type
async def wrong_too(ctx: JobContext[OrderDelivered]) -> None: ...


@define_cron_job("wrong-cron", schedule="0 3 * * *", event=InvoicePaid)  # E: arg-type
def wrong_cron(ctx: JobContext[OrderCreated]) -> None: ...


send_job("job.commerceSyncOrder", {"tenantId": "acme", "orderId": "o-1"})  # E: arg-type


# The catalog
name: JobEvent = "order.create"  # E: assignment
other: Literal["order.create"] = OrderCreated.event_name  # E: assignment


async def in_an_asyncio_application() -> None:
    await asend_job("ab.testStarted", {"testId": "t"})  # E: arg-type
