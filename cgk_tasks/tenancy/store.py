"""The table `cgk.tenants`, and what a process remembers of it."""

from __future__ import annotations

from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import Row, autocommit, fetch, statements
from cgk_tasks.tenancy.models import Tenant

SQL = statements("tenants")

KNOWN: Part[dict[str, tuple[float, Tenant]]] = Part(dict, survives_fork=True)
"""The tenants that a runtime knows, each with the time until which that is trusted."""


def forget_known() -> None:
    """Forget what is known about tenants; the next look asks the database."""
    KNOWN.current().clear()


def find(tenant_id: str) -> Tenant | None:
    """The tenant as it is in the table now."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["get_tenant"], {"id": tenant_id})
    return tenant_of(rows[0]) if rows else None


def tenant_of(row: Row) -> Tenant:
    return Tenant(row["id"], row["status"], row["isolation"], row["schema_name"], row["role_name"])


def all_tenants() -> list[Tenant]:
    """Every tenant, suspended ones included."""
    with autocommit() as connection:
        return [tenant_of(row) for row in fetch(connection, SQL["list_tenants"])]
