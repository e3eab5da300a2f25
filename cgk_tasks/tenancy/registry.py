"""Which tenants there are: the table `cgk.tenants`,
fed by `cgk-tasks tenants add` or by a query of the platform's own.
"""

from __future__ import annotations

import time
from collections.abc import Collection

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.config.nearest import nearest
from cgk_tasks.errors import UnknownTenantError
from cgk_tasks.events.base import validate_tenant_id
from cgk_tasks.sql.postgres import autocommit, explain, fetch
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.platform import PLATFORM_TENANT
from cgk_tasks.tenancy.store import KNOWN, SQL, all_tenants, find, forget_known, tenant_of

__all__ = [
    "active_tenants",
    "all_tenants",
    "forget_known",
    "get_all_tenants",
    "learn",
    "require",
    "unknown",
]


def require(tenant_id: object) -> Tenant:
    """The tenant with this id, at most `tenants_refresh_seconds` old.

    Raises InvalidTenantError (malformed), UnknownTenantError (not registered) or StoreError.
    """
    if isinstance(tenant_id, str) and (known := KNOWN.current().get(tenant_id)) and known[0] > time.monotonic():
        return known[1]
    wanted = validate_tenant_id(tenant_id)
    try:
        tenant = find(wanted)
        if tenant is None and get_settings().tenants_query:
            _sync()
            tenant = find(wanted)
        if tenant is None:
            raise unknown(wanted)
    except psycopg.Error as exc:
        raise explain(exc) from exc
    KNOWN.current()[wanted] = (time.monotonic() + get_settings().tenants_refresh_seconds, tenant)
    return tenant


def unknown(tenant_id: str) -> UnknownTenantError:
    """The error about an id that is not registered: it names one that is much like it."""
    return UnknownTenantError(tenant_id, nearest(tenant_id, [known.id for known in all_tenants()]))


def learn(tenant_ids: Collection[str]) -> None:
    """Ask for many tenants with one statement; `require` knows them then. Those that are not there are left to it."""
    now, all_known = time.monotonic(), KNOWN.current()
    unknown = [one for one in tenant_ids if not ((known := all_known.get(one)) and known[0] > now)]
    if len(unknown) < 2:
        return
    try:
        with autocommit() as connection:
            rows = fetch(connection, SQL["get_tenants"], {"ids": unknown})
    except psycopg.Error as exc:
        raise explain(exc) from exc
    fresh_until = time.monotonic() + get_settings().tenants_refresh_seconds
    for row in rows:
        all_known[row["id"]] = fresh_until, tenant_of(row)


def active_tenants() -> list[Tenant]:
    """The tenants that are active now, from the registry (and from CGK_TENANTS_QUERY, if set)."""
    _sync_if_old()
    with autocommit() as connection:
        return [tenant_of(row) for row in fetch(connection, SQL["active_tenants"])]


def get_all_tenants() -> list[Tenant]:
    """All tenants, suspended ones too. The platform is none of them."""
    _sync_if_old()
    return [tenant for tenant in all_tenants() if tenant.id != PLATFORM_TENANT]


def _sync_if_old() -> None:
    if get_settings().tenants_query:
        _sync(max_age_seconds=get_settings().tenants_refresh_seconds)


def _sync(max_age_seconds: float = 0.0) -> None:
    from cgk_tasks.tenancy import sync  # not for a send to tenants that are known

    sync.sync(max_age_seconds=max_age_seconds)
