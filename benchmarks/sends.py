"""The same send in both worlds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from harness import TENANT
from jobs import MarkStart, WriteRow
from plain_app import app

from cgk_tasks import SendItem, send_job

Send = Callable[[float], object]


def ours_order(number: int) -> SendItem:
    return SendItem("order.created", {"tenantId": TENANT, "orderId": f"o-{number}", "totalAmount": 59.97})


def send_ours(number: int) -> None:
    send_job("order.created", {"tenantId": TENANT, "orderId": f"o-{number}", "totalAmount": 59.97})


def plain_order(number: int) -> dict[str, object]:
    return {"tenant_id": TENANT, "order_id": f"o-{number}", "total_amount": 59.97}


def ours_rows(count: int, tenants: Sequence[str] = (TENANT,), model: type[WriteRow] = WriteRow) -> Iterator[WriteRow]:
    return (
        model(tenant_id=tenants[number % len(tenants)], order_id=f"o-{number}", amount=59.97) for number in range(count)
    )


def plain_row(number: int) -> dict[str, object]:
    return {"tenant_id": TENANT, "order_id": f"o-{number}", "amount": 59.97}


def mark_ours(since: float) -> None:
    send_job(MarkStart(tenant_id=TENANT, since=since))


def mark_plain(since: float) -> None:
    app.tasks["mark_start"].apply_async(kwargs={"tenant_id": TENANT, "since": since})
