"""The tenant `platform`: whose work it is when something runs for all tenants at once. No customer, and never listed
among the active tenants.
"""

from __future__ import annotations

from typing import Final

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import autocommit, execute, fetch, statements
from cgk_tasks.tenancy.models import Tenant

SQL = statements("tenants")

PLATFORM_TENANT: Final = "platform"


def is_platform(tenant: Tenant) -> bool:
    """Whether this is the platform, and not a customer who got its id before that was refused."""
    own = (tenant.schema_name, tenant.role_name) != ("public", None)  # as every customer has, with any isolation
    return tenant.id == PLATFORM_TENANT and not (tenant.registered and own)


def ensure_platform_tenant() -> None:
    """Register the platform's tenant, in the schema `public`; safe to repeat.

    Raises ConfigurationError when a customer has its id.
    """
    with autocommit() as connection:
        execute(connection, SQL["add_platform"], {"id": PLATFORM_TENANT})
        (row,) = fetch(connection, SQL["tenant_source"], {"id": PLATFORM_TENANT})
    if row["source"] != "platform":
        raise ConfigurationError(
            (
                f"The tenant id {PLATFORM_TENANT!r} belongs to a customer, but it stands for the platform itself, "
                "whose "
                "schedules need it."
            ),
            hint="Give that customer another id.",
        )
