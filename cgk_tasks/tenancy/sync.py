"""Feeding the registry from CGK_TENANTS_QUERY, a query of the platform's own that lists its active tenants."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, ConfigurationError, InvalidTenantError, StoreError
from cgk_tasks.events.base import validate_tenant_id
from cgk_tasks.logger import get_logger
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, execute, explain, is_away, short_transaction, statements
from cgk_tasks.tenancy import names, store
from cgk_tasks.tenancy.adding import add_tenant

SQL = statements("tenants")
log = get_logger("cgk_tasks.tenancy")

_NEVER = float("-inf")


class _State:
    """When the query last worked, and who may run it."""

    def __init__(self) -> None:
        self.begun_at = _NEVER
        self.tried_by_leader_at = _NEVER
        self.one_at_a_time = threading.Lock()


STATE = Part(_State)


def sync(max_age_seconds: float = 0.0) -> bool:
    """Run CGK_TENANTS_QUERY, unless it is not set or began less than `max_age_seconds` before this call.

    Ids that are new are added. Tenants that the query found once and lists no longer are suspended, never deleted,
    and resumed when it lists them again; tenants that were added by hand are left alone. An empty answer changes
    nothing: a platform without customers is less likely than a broken query. Returns whether the query ran.
    Raises ConfigurationError when the query fails, StoreError.
    """
    query = get_settings().tenants_query
    if query is None:
        return False
    fresh_since = time.monotonic() - max_age_seconds
    state = STATE.current()
    with state.one_at_a_time:
        if state.begun_at >= fresh_since:
            return False
        begun_at = time.monotonic()
        try:
            listed = listed_by(query)
            if listed:
                _add_new(listed)
                _suspend_and_resume(list(listed))
        except psycopg.Error as exc:
            raise explain(exc) from exc
        state.begun_at = begun_at
    return True


def is_sync_due(max_age_seconds: float) -> bool:
    """Whether there is a query, which neither this process nor its leader has begun within so many seconds."""
    state = STATE.current()
    last = max(state.begun_at, state.tried_by_leader_at)
    return get_settings().tenants_query is not None and time.monotonic() - last >= max_age_seconds


def sync_and_log(max_age_seconds: float) -> None:
    """Sync as the leader does: setting up many tenants takes time, so in a thread of its own. Errors are logged."""
    STATE.current().tried_by_leader_at = time.monotonic()
    try:
        sync(max_age_seconds)
    except CgkTasksError as exc:
        log.warning("tenants_query_failed", reason=str(exc))
    except Exception:
        log.exception("tenants_query_error")


def listed_by(query: str) -> dict[str, str | None]:
    """Schema (or None) by tenant id, as the query gives them."""
    try:
        with autocommit() as connection:
            rows: list[Any] = connection.execute(query).fetchall()
    except psycopg.Error as exc:
        if is_away(exc):
            raise
        raise ConfigurationError(f"CGK_TENANTS_QUERY failed: {str(exc).strip()}") from exc
    listed: dict[str, str | None] = {}
    for row in rows:
        try:
            tenant_id = validate_tenant_id(str(row[0]))
            names.check_id(tenant_id)
            listed[tenant_id] = row[1] if len(row) > 1 else None
        except (InvalidTenantError, ConfigurationError) as exc:
            log.warning("tenant_not_added", reason=str(exc), hint="CGK_TENANTS_QUERY lists it; other tenants are added")
    if not listed:
        log.warning("tenants_query_is_empty", hint="CGK_TENANTS_QUERY listed no tenant; the registry stays as it is")
    return listed


def _add_new(listed: dict[str, str | None]) -> None:
    known = {tenant.id for tenant in store.all_tenants()}
    for tenant_id, schema in listed.items():
        if tenant_id in known:
            continue
        try:
            add_tenant(tenant_id, schema=schema, source="query")
        except StoreError:
            raise
        except Exception:  # one tenant whose set-up fails must not keep the others out
            log.exception("tenant_not_added", tenant=tenant_id)


def _suspend_and_resume(ids: list[str]) -> None:
    with short_transaction(60) as connection:
        changed = execute(connection, SQL["suspend_missing_tenants"], {"ids": ids})
        changed += execute(connection, SQL["resume_listed_tenants"], {"ids": ids})
    if changed:
        store.forget_known()
