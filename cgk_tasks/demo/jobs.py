"""The jobs of the demo: what an application would write."""

from __future__ import annotations

from sqlalchemy import text

from cgk_tasks import JobContext, RetryLater, define_job
from cgk_tasks.events import OrderCreated, ReviewReminder

ADD_ORDER = text("INSERT INTO orders (order_id, customer_id, amount) VALUES (:order_id, :customer_id, :amount)")

ADD_TO_CUSTOMER = text("""
    INSERT INTO customers AS c (customer_id, orders, total) VALUES (:customer_id, 1, :amount)
    ON CONFLICT (customer_id) DO UPDATE SET orders = c.orders + 1, total = c.total + excluded.total
""")

REMIND = text("UPDATE orders SET reminders = :number WHERE order_id = :order_id")


@define_job("record-order", event="order.created")
def record_order(ctx: JobContext[OrderCreated]) -> None:
    """Write the order and add it to its customer's total.

    Running this twice would count an order twice. It needs no guard of its own: what is written with `ctx.db` commits
    together with the run's completion, or not at all.
    """
    order = {
        "order_id": ctx.payload.order_id,
        "customer_id": ctx.payload.customer_id,
        "amount": ctx.payload.total_amount,
    }
    ctx.db.execute(ADD_ORDER, order)
    ctx.db.execute(ADD_TO_CUSTOMER, order)


@define_job("remind-of-review", event="review.reminder")
def remind_of_review(ctx: JobContext[ReviewReminder]) -> None:
    """Note on the order that its customer was reminded; look again a second later if it is not written yet."""
    reminder = {"order_id": ctx.payload.order_id, "number": ctx.payload.reminder_number}
    if ctx.db.connection().execute(REMIND, reminder).rowcount == 0:
        raise RetryLater(1.0)
