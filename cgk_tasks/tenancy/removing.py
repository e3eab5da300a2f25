"""Removing a tenant for ever: what is on record of it, its cache, and on request its tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import errors as pg_errors
from psycopg import sql

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, TenantError
from cgk_tasks.events.base import validate_tenant_id
from cgk_tasks.sql.postgres import Connection, autocommit, execute, explain, fetch, short_transaction, transaction
from cgk_tasks.tenancy import cache, names, sync
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.registry import unknown
from cgk_tasks.tenancy.store import KNOWN, SQL, tenant_of
from cgk_tasks.tenancy.visibility import refuse_in_context

_ROWS_AT_ONCE: Final = 10_000
"""Transactions stay short: while one lasts, PostgreSQL cleans up after nobody."""


@dataclass(frozen=True, slots=True)
class Removed:
    """rows: how many were deleted of schema `cgk`; schema_left: the tenant's schema, if it was not dropped."""

    tenant: str
    rows: int
    schema_left: str | None = None


def remove_tenant(tenant_id: str, *, drop_schema: bool = False) -> Removed:
    """Delete a suspended tenant without open runs: its runs, logs, schedules, limits, keys, endpoints, usage, and its
    cache. This cannot be undone. What the audit says of it stays.

    drop_schema: its schema too, with all tables in there, and its role. Without it, and where tenants share tables,
    the application's tables stay as they are, and so do files in its storage.

    Safe to repeat: after an error, and for what a process has sent that did not know of the removal yet. Raises
    TenantError for a tenant that is active or has open runs; ConfigurationError if CGK_TENANTS_QUERY lists it, for it
    would come back, or if the login may not drop the schema; InvalidTenantError, UnknownTenantError, StoreError,
    BrokerError, and TenantContextError inside a tenant's context.

        suspend_tenant("acme")
        remove_tenant("acme", drop_schema=True)
    """
    refuse_in_context("Which tenants there are")
    wanted = validate_tenant_id(tenant_id)
    names.check_id(wanted)
    try:
        _refuse_listed(wanted)
        tenant = _unregister(wanted, drop_schema)
        if cache.has_tenant_cache():
            cache.clear(wanted)
        rows = sum(_delete_rows(table, wanted) for table in _tables())
    except psycopg.Error as exc:
        raise explain(exc) from exc
    finally:
        KNOWN.current().pop(wanted, None)
    if tenant is None and not rows:
        raise unknown(wanted)
    left = tenant.schema_name if tenant is not None and not drop_schema and tenant.isolation != "rls" else None
    return Removed(wanted, rows, left)


def _refuse_listed(tenant_id: str) -> None:
    if (query := get_settings().tenants_query) is not None and tenant_id in sync.listed_by(query):
        raise ConfigurationError(
            f"CGK_TENANTS_QUERY lists tenant {tenant_id!r}, so it would be added again.",
            hint="Let the query leave it out first.",
        )


def _unregister(tenant_id: str, drop_schema: bool) -> Tenant | None:
    """From here on nothing can be sent to it. None: that was so before."""
    with transaction() as connection:
        rows = fetch(connection, SQL["lock_tenant"], {"id": tenant_id})
        tenant = tenant_of(rows[0]) if rows else None
        if tenant is not None and tenant.status == "active":
            raise TenantError(
                f"Tenant {tenant_id!r} is active, and is not removed.",
                hint=f"See that nothing is sent to it, and run: cgk-tasks tenants suspend {tenant_id}",
            )
        _refuse_open_runs(connection, tenant_id)
        if tenant is None:
            return None
        if drop_schema:
            _drop_schema(connection, tenant)
        execute(connection, SQL["remove_tenant"], {"id": tenant_id})
        note(connection, "remove tenant", tenant_id, tenant_id=tenant_id)
    return tenant


def _refuse_open_runs(connection: Connection, tenant_id: str) -> None:
    count = fetch(connection, SQL["count_open_runs"], {"id": tenant_id})[0]["count"]
    if count:
        runs = "1 open run" if count == 1 else f"{count:,} open runs"
        raise TenantError(
            f"Tenant {tenant_id!r} has {runs}, and is not removed.",
            hint=f"Cancel them, or let them end: cgk-tasks runs cancel --matching 'tenant:{tenant_id} state:open'",
        )


def _drop_schema(connection: Connection, tenant: Tenant) -> None:
    """And the role, unless something of another database on this server is its."""
    if tenant.isolation == "rls":
        raise TenantError(
            f"Tenant {tenant.id!r} has no schema of its own that could be dropped: its isolation is rls.",
            hint="Delete its rows of the shared tables yourself, and leave --drop-schema out.",
        )
    names.check_schema(tenant)  # one that an early release has taken may be everybody's
    try:
        connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(tenant.schema_name)))
        if tenant.role_name is not None:
            role = sql.Identifier(tenant.role_name)
            connection.execute(sql.SQL("DROP OWNED BY {} CASCADE").format(role))
            try:
                with connection.transaction():
                    connection.execute(sql.SQL("DROP ROLE {}").format(role))
            except pg_errors.DependentObjectsStillExist:
                pass
    except pg_errors.InsufficientPrivilege as exc:
        raise ConfigurationError(
            f"The login {connection.info.user!r} may not drop the schema {tenant.schema_name!r}, or its role: "
            f"{exc.diag.message_primary}.",
            hint="Let its owner drop it, and leave --drop-schema out.",
        ) from exc


def _tables() -> list[str]:
    """All tables and partitions of schema `cgk` that know tenants, but the audit's; those that others refer to last."""
    with autocommit() as connection:
        return [row["name"] for row in fetch(connection, SQL["tables_of_tenants"])]


def _delete_rows(table: str, tenant_id: str) -> int:
    statement = sql.SQL(
        "DELETE FROM {table} WHERE ctid = ANY(ARRAY(SELECT ctid FROM {table} WHERE tenant_id = %s LIMIT %s))"
    ).format(table=sql.Identifier("cgk", table))
    rows = 0
    while True:
        with short_transaction() as connection:
            deleted = connection.execute(statement, [tenant_id, _ROWS_AT_ONCE]).rowcount
        rows += deleted
        if deleted < _ROWS_AT_ONCE:
            return rows
