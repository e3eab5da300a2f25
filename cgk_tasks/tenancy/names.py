"""Names that no customer may have: of the platform, of the tables of cgk_tasks and Django, of PostgreSQL's own schemas.

Asked wherever a tenant comes in, and once more where its session opens, for tenants that were registered before.
"""

from __future__ import annotations

from typing import Final

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.platform import PLATFORM_TENANT, is_platform

SHARED_ROLE: Final = "cgk_tenants"
"""The one role of all tenants on shared tables. Roles of single tenants begin with `cgk_tenant_`: no clash."""

_SCHEMAS: Final = frozenset({"cgk", "cgk_beat", "information_schema"})
_IDS: Final = _SCHEMAS | {PLATFORM_TENANT, SHARED_ROLE, "public"}
_OF_POSTGRESQL: Final = "pg_"


def check_id(tenant_id: str) -> None:
    """Refuse an id that no customer may have. Raises ConfigurationError."""
    if tenant_id in _IDS or tenant_id.startswith(_OF_POSTGRESQL):
        whose = "the platform itself" if tenant_id == PLATFORM_TENANT else "a schema or role that is no tenant's"
        raise ConfigurationError(
            f"No customer can have the tenant id {tenant_id!r}: it names {whose}.",
            hint="Give that customer another id.",
        )


def check_schema(tenant: Tenant) -> None:
    """Refuse a schema that is not a tenant's, as `public` is where tenants share no tables. Raises
    ConfigurationError.
    """
    name = tenant.schema_name
    if name in _SCHEMAS or name.startswith(_OF_POSTGRESQL):
        raise ConfigurationError(
            f"The schema {name!r} is not a tenant's, so {tenant.id!r} cannot have it.",
            hint="Choose another, such as tenant_acme; check CGK_TENANT_SCHEMA and CGK_TENANTS_QUERY.",
        )
    if name == "public" and tenant.isolation != "rls" and not is_platform(tenant):
        raise ConfigurationError(
            "The schema public is everybody's, so it cannot be one tenant's own.",
            hint="Give the tenant another schema, or isolation rls, where tenants share tables.",
        )


def problem_of(tenant: Tenant) -> ConfigurationError | None:
    """What is wrong with the names of a registered tenant; None if nothing is."""
    try:
        if tenant.id == PLATFORM_TENANT and not is_platform(tenant):
            check_id(tenant.id)
        check_schema(tenant)
    except ConfigurationError as exc:
        return exc
    return None
