"""CGK_TENANT_SETUP: the application's function that makes a tenant's tables, for a new tenant and again for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from psycopg import sql

from cgk_tasks.config import Settings, get_settings
from cgk_tasks.errors import ConfigurationError, StoreError
from cgk_tasks.sql.postgres import Connection, explain, fetch, is_away, statements, transaction
from cgk_tasks.tenancy import confinement
from cgk_tasks.tenancy.models import Tenant

SQL = statements("tenants")

SetupHook = Callable[[Tenant, Connection], Any]


@dataclass(frozen=True, slots=True)
class SetUp:
    """What became of one tenant. error: None where it worked; is_skipped: not begun, because another one failed."""

    tenant: str
    seconds: float = 0.0
    error: str | None = None
    is_skipped: bool = False

    @property
    def worked(self) -> bool:
        return self.error is None and not self.is_skipped


def find_hook(settings: Settings) -> SetupHook | None:
    """The function that CGK_TENANT_SETUP names, if it is set. Raises ConfigurationError when it cannot be loaded."""
    path = settings.tenant_setup
    if not path:
        return None
    module_name, _, function = path.partition(":")
    try:
        hook: SetupHook = getattr(import_module(module_name), function)
    except (ImportError, AttributeError, ValueError) as exc:
        raise ConfigurationError(
            f"CGK_TENANT_SETUP={path!r} cannot be loaded ({exc}). Write it as module:function."
        ) from exc
    return hook


def run_hook(hook: SetupHook, tenant: Tenant, connection: Connection) -> None:
    """Call the hook in the tenant's schema, and open what it made to the tenant's role; in the caller's transaction."""
    connection.execute(sql.SQL("SET LOCAL search_path TO {}").format(sql.Identifier(tenant.schema_name)))
    hook(tenant, connection)
    confinement.grant(connection, tenant)


def set_up_tenants(tenants: Sequence[Tenant], *, jobs: int = 4, keep_going: bool = False) -> Iterator[SetUp]:
    """Run CGK_TENANT_SETUP for tenants that are registered, `jobs` at a time, and yield each as it ends.

    Every tenant is a transaction of its own; those that share a schema come one after the other. After an error the
    tenants that are under way are ended, and the others skipped, unless `keep_going`. Raises ConfigurationError when
    the setting is missing or names nothing, StoreError when PostgreSQL cannot be reached.
    """
    hook = find_hook(get_settings())
    if hook is None:
        raise ConfigurationError(
            "CGK_TENANT_SETUP is not set, so there is nothing to run. Set it to module:function, a function that makes "
            "or changes a tenant's tables."
        )
    stop = threading.Event()

    def set_up(tenant: Tenant) -> SetUp:
        if stop.is_set():
            return SetUp(tenant.id, is_skipped=True)
        begun_at = time.monotonic()
        error = _error_of(hook, tenant)
        if error is not None and not keep_going:
            stop.set()
        return SetUp(tenant.id, time.monotonic() - begun_at, error)

    with ThreadPoolExecutor(jobs, "cgk-tenant-setup") as pool:
        under_way = [pool.submit(set_up, tenant) for tenant in tenants]
        try:
            for done in as_completed(under_way):
                yield done.result()
        finally:
            stop.set()  # an interrupt, or PostgreSQL is away: what is under way ends, nothing more begins


def _error_of(hook: SetupHook, tenant: Tenant) -> str | None:
    try:
        with transaction() as connection:
            fetch(connection, SQL["lock_schema"], {"schema": tenant.schema_name})
            run_hook(hook, tenant, connection)
    except StoreError:
        raise
    except Exception as exc:
        if is_away(exc):
            raise explain(exc) from exc
        return f"{type(exc).__name__}: {str(exc).strip()}"
    return None
