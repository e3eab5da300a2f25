"""Which tenants there are: the table `cgk.tenants`,
fed by `cgk-tasks tenants add` or by a query of the platform's own.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import Literal

import psycopg
from psycopg import errors as pg_errors

from cgk_tasks.config import Isolation, get_settings
from cgk_tasks.config.nearest import nearest
from cgk_tasks.errors import ConfigurationError, UnknownTenantError
from cgk_tasks.events.base import validate_tenant_id
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, explain, fetch, statements, transaction
from cgk_tasks.tenancy import confinement, sync
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.setup import find_hook, run_hook

SQL = statements("tenants")

Source = Literal["hand", "query", "platform"]
"""Who put a tenant into the registry; the platform's query suspends only those that it found itself."""

KNOWN: Part[dict[str, tuple[float, Tenant]]] = Part(dict, survives_fork=True)
"""The tenants that a runtime knows, each with the time until which that is trusted."""


def require(tenant_id: object) -> Tenant:
    """The tenant with this id, at most `tenants_refresh_seconds` old.

    Raises InvalidTenantError (malformed), UnknownTenantError (not registered) or StoreError.
    """
    if isinstance(tenant_id, str) and (known := KNOWN.current().get(tenant_id)) and known[0] > time.monotonic():
        return known[1]
    wanted = validate_tenant_id(tenant_id)
    try:
        tenant = _find(wanted)
        if tenant is None and get_settings().tenants_query:
            sync.sync()
            tenant = _find(wanted)
        if tenant is None:
            raise UnknownTenantError(wanted, nearest(wanted, [known.id for known in all_tenants()]))
    except psycopg.Error as exc:
        raise explain(exc) from exc
    KNOWN.current()[wanted] = (time.monotonic() + get_settings().tenants_refresh_seconds, tenant)
    return tenant


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
        all_known[row["id"]] = fresh_until, _tenant(row)


def forget_known() -> None:
    """Forget what is known about tenants; the next look asks the database."""
    KNOWN.current().clear()


def _find(tenant_id: str) -> Tenant | None:
    with autocommit() as connection:
        rows = fetch(connection, SQL["get_tenant"], {"id": tenant_id})
    return _tenant(rows[0]) if rows else None


def _tenant(row: Row) -> Tenant:
    return Tenant(row["id"], row["status"], row["isolation"], row["schema_name"], row["role_name"])


def all_tenants() -> list[Tenant]:
    """Every tenant, suspended ones included."""
    with autocommit() as connection:
        return [_tenant(row) for row in fetch(connection, SQL["list_tenants"])]


def active_tenants() -> list[Tenant]:
    """The tenants that are active now, from the registry (and from CGK_TENANTS_QUERY, if set)."""
    if get_settings().tenants_query:
        sync.sync(max_age_seconds=get_settings().tenants_refresh_seconds)
    with autocommit() as connection:
        return [_tenant(row) for row in fetch(connection, SQL["active_tenants"])]


def add_tenant(
    tenant_id: str, *, schema: str | None = None, isolation: Isolation | None = None, source: Source = "hand"
) -> Tenant:
    """Register a tenant: its schema and role are created if missing, then CGK_TENANT_SETUP runs in its schema.

    Safe to repeat, also by several processes at once. Everything happens in one transaction. Raises InvalidTenantError;
    ConfigurationError when the login may not create roles, when another tenant has the schema, or when the tenant is
    there already with another schema or isolation than asked for; StoreError.
    """
    settings = get_settings()
    wanted = confinement.plan(validate_tenant_id(tenant_id), schema, isolation or settings.tenant_isolation, settings)
    hook = find_hook(settings)
    try:
        with transaction() as connection:
            tenant = _register(connection, wanted, source)
            if schema is not None or isolation is not None:
                _check_asked(tenant, schema, isolation)
            confinement.prepare(connection, tenant)
            if hook is not None:
                run_hook(hook, tenant, connection)
    except psycopg.OperationalError as exc:
        raise explain(exc) from exc
    KNOWN.current().pop(tenant.id, None)
    return tenant


def _register(connection: Connection, wanted: Tenant, source: Source) -> Tenant:
    """The row in the registry; one that was there before wins over what is wanted now."""
    values = {
        "id": wanted.id, "isolation": wanted.isolation, "schema_name": wanted.schema_name,
        "role_name": wanted.role_name, "source": source,
    }  # fmt: skip
    try:
        fetch(connection, SQL["lock_registry"])
        if execute(connection, SQL["add_tenant"], values) and source == "hand":
            note(connection, "add tenant", wanted.id, tenant_id=wanted.id)
    except pg_errors.UniqueViolation as exc:
        raise ConfigurationError(
            f"The schema {wanted.schema_name!r} belongs to another tenant, so {wanted.id!r} cannot have it.",
            hint="Name another one, and check that CGK_TENANT_SCHEMA contains {id}.",
        ) from exc
    except (pg_errors.UndefinedTable, pg_errors.UndefinedColumn) as exc:
        raise explain(exc) from exc
    return _tenant(fetch(connection, SQL["get_tenant"], {"id": wanted.id})[0])


def _check_asked(tenant: Tenant, schema: str | None, isolation: Isolation | None) -> None:
    if (schema or tenant.schema_name) == tenant.schema_name and (isolation or tenant.isolation) == tenant.isolation:
        return
    raise ConfigurationError(
        f"Tenant {tenant.id!r} is registered with schema {tenant.schema_name!r} and isolation {tenant.isolation!r}.",
        hint="That is not changed by adding it again: leave these options out.",
    )


def suspend_tenant(tenant_id: str, by: str = "") -> Tenant:
    """Hold the tenant's runs: nothing new starts, sends are accepted and wait. Raises UnknownTenantError."""
    return _set_status(tenant_id, "suspended", by)


def resume_tenant(tenant_id: str) -> Tenant:
    """Let the tenant's held runs go on; the dispatcher dispatches them within a second. Raises UnknownTenantError."""
    return _set_status(tenant_id, "active", "")


def _set_status(tenant_id: str, status: str, by: str) -> Tenant:
    require(tenant_id)
    action = "suspend tenant" if status == "suspended" else "resume tenant"
    with transaction() as connection:
        rows = fetch(connection, SQL["set_tenant_status"], {"id": tenant_id, "status": status, "by": by})
        note(connection, action, tenant_id, tenant_id=tenant_id, by=by)
    KNOWN.current().pop(tenant_id, None)
    return _tenant(rows[0])
