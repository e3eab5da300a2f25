"""An order's life: packed, shipped, and a review asked for two weeks later, unless it is returned."""

from datetime import timedelta
from typing import Annotated

from cgk_tasks import WorkflowContext, define_workflow, send_job
from cgk_tasks.events import EmailReviewRequest, Sensitive, SlackNotify, TenantEvent

DAY = timedelta(days=1)


class OrderPaid(TenantEvent, event="order.paid"):
    order_id: str
    email: Annotated[str, Sensitive()]


class OrderPacked(TenantEvent, event="order.packed"):
    order_id: str


class OrderShipped(TenantEvent, event="order.shipped"):
    order_id: str


class OrderReturned(TenantEvent, event="order.returned"):
    order_id: str


def remind_warehouse(order: OrderPaid, days: int) -> None:
    message = f"Order {order.order_id} was paid {days} days ago and is not packed."
    reminder = SlackNotify(tenant_id=order.tenant_id, channel="#warehouse", message=message)
    send_job(reminder, idempotency_key=f"not-packed:{order.order_id}:{days}")


def ask_for_review(order: OrderPaid) -> None:
    request = EmailReviewRequest(tenant_id=order.tenant_id, order_id=order.order_id, customer_email=order.email)
    send_job(request, idempotency_key=f"review:{order.order_id}")


@define_workflow(
    "order-life",
    event=OrderPaid,
    waits_for=[(OrderPacked, "orderId"), (OrderShipped, "orderId"), (OrderReturned, "orderId")],
)
def order_life(wf: WorkflowContext[OrderPaid]) -> str:
    order, days = wf.payload, 0
    packed = wf.event(OrderPacked, match=order.order_id)
    shipped = wf.event(OrderShipped, match=order.order_id)
    returned = wf.event(OrderReturned, match=order.order_id)

    while (first := wf.wait_any("packing", packed=packed, returned=returned, late=wf.timer(DAY))).name == "late":
        days += 1
        wf.step("remind-the-warehouse", remind_warehouse, order, days)
    if first.name == "packed":
        first = wf.wait_any("shipping", shipped=shipped, returned=returned)
    if first.name == "shipped":
        first = wf.wait_any("two-weeks", returned=returned, over=wf.timer(14 * DAY))
    if first.name == "returned":
        return "returned"
    wf.step("ask-for-a-review", ask_for_review, order)
    return "kept"
