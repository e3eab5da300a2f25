"""What the demo sends: every order at once, and reminders for later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cgk_tasks.client import SendItem, send_jobs
from cgk_tasks.demo.purchases import Purchase
from cgk_tasks.events import OrderCreated, ReviewReminder
from cgk_tasks.flow.new_run import SendOptions

SOON = 30
"""So many customers are reminded within seconds."""

NEXT_YEAR = 12
"""So many are not: these runs stay scheduled."""

_AT_ONCE = 1000
_FIRST_REMINDER_SECONDS = 2.0
_LAST_REMINDER_SECONDS = 5.0


def send_orders(purchases: Sequence[Purchase]) -> None:
    """Send the orders, a thousand in a transaction:
    the workers begin with the first while the last are on their way.
    """
    for begin in range(0, len(purchases), _AT_ONCE):
        send_jobs(_order(purchase) for purchase in purchases[begin : begin + _AT_ONCE])


def send_reminders(purchases: Sequence[Purchase]) -> None:
    """Schedule a reminder for the first orders of some customers: for 30 in a few seconds, for 12 in a year."""
    first_orders = list({purchase.customer_id: purchase for purchase in reversed(purchases)}.values())[::-1]
    pause = (_LAST_REMINDER_SECONDS - _FIRST_REMINDER_SECONDS) / SOON
    soon = [
        SendItem(_reminder(purchase), options=SendOptions(delay=_FIRST_REMINDER_SECONDS + position * pause))
        for position, purchase in enumerate(first_orders[:SOON])
    ]
    next_year = SendOptions(run_at=datetime.now(UTC) + timedelta(days=365))
    later = [SendItem(_reminder(purchase), options=next_year) for purchase in first_orders[SOON : SOON + NEXT_YEAR]]
    send_jobs([*soon, *later])


def _order(purchase: Purchase) -> OrderCreated:
    return OrderCreated(
        tenant_id=purchase.tenant_id,
        order_id=purchase.order_id,
        customer_id=purchase.customer_id,
        total_amount=purchase.amount,
        currency="USD",
    )


def _reminder(purchase: Purchase) -> ReviewReminder:
    return ReviewReminder(tenant_id=purchase.tenant_id, order_id=purchase.order_id, reminder_number=1)
