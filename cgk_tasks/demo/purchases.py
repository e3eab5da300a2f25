"""The orders of the demo: what 2,357 real customers bought at CDNOW, a record shop, in 1997 and 1998."""

from __future__ import annotations

import csv
import zlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files

TENANTS = ("bluebird", "harbor", "sunset")
"""Three shops, which share the customers."""


@dataclass(frozen=True, slots=True)
class Purchase:
    """One order of the file. `amount`: dollars, to the cent."""

    order_id: str
    customer_id: str
    amount: Decimal

    @property
    def tenant_id(self) -> str:
        """The shop of this customer: always the same one."""
        return TENANTS[zlib.crc32(self.customer_id.encode()) % len(TENANTS)]


@dataclass(frozen=True, slots=True)
class Sums:
    """What a tenant's tables must hold in the end. `revenue`: dollars, to the cent."""

    orders: int
    customers: int
    revenue: Decimal


def read_purchases() -> list[Purchase]:
    """Every order of the file, in its order."""
    text = files("cgk_tasks.demo").joinpath("cdnow_orders.csv").read_text(encoding="utf-8")
    return [
        Purchase(row["order_id"], row["customer_id"], Decimal(row["total_cents"]).scaleb(-2))
        for row in csv.DictReader(text.splitlines())
    ]


def sums_by_tenant(purchases: Iterable[Purchase]) -> dict[str, Sums]:
    """The sums of the file for each tenant."""
    orders = Counter[str]()
    revenue = dict.fromkeys(TENANTS, Decimal(0))
    customers: dict[str, set[str]] = {tenant_id: set() for tenant_id in TENANTS}
    for purchase in purchases:
        orders[purchase.tenant_id] += 1
        revenue[purchase.tenant_id] += purchase.amount
        customers[purchase.tenant_id].add(purchase.customer_id)
    return {tenant_id: Sums(orders[tenant_id], len(customers[tenant_id]), revenue[tenant_id]) for tenant_id in TENANTS}
