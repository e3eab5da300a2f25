"""The tenants' own tables: made when a tenant is added, read when the demo is over."""

from __future__ import annotations

from decimal import Decimal

from sqlalchemy import text

from cgk_tasks.demo.purchases import Sums
from cgk_tasks.sql.postgres import Connection
from cgk_tasks.tenancy import Tenant, tenant_context, tenant_session

TABLES = """
DROP TABLE IF EXISTS orders, customers;
CREATE TABLE orders (
    order_id text PRIMARY KEY,
    customer_id text NOT NULL,
    amount numeric(12, 2) NOT NULL,
    reminders int NOT NULL DEFAULT 0
);
CREATE TABLE customers (
    customer_id text PRIMARY KEY,
    orders int NOT NULL,
    total numeric(12, 2) NOT NULL
);
"""

SUMS = text("""
    SELECT (SELECT count(*) FROM orders) AS orders, (SELECT coalesce(sum(amount), 0) FROM orders) AS revenue,
           (SELECT count(*) FROM customers) AS customers, (SELECT coalesce(sum(total), 0) FROM customers) AS totals
""")


def create_tables(_tenant: Tenant, connection: Connection) -> None:
    """The hook that CGK_TENANT_SETUP names: `add_tenant` calls it with a connection in the tenant's schema."""
    connection.execute(TABLES)


def read_sums(tenant_id: str) -> tuple[Sums, Decimal]:
    """What is in a tenant's tables now, and the sum of its customers' totals."""
    with tenant_context(tenant_id), tenant_session() as session:
        row = session.execute(SUMS).one()
    return Sums(row.orders, row.customers, row.revenue), row.totals
