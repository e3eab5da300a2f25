"""Whose work runs now: a context variable that holds the tenant, in threads, tasks and coroutines alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import wraps
from typing import ParamSpec, TypeVar

from cgk_tasks.errors import TenantContextError, TenantMissingError
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.models import Tenant

P = ParamSpec("P")
R = TypeVar("R")

_tenant: ContextVar[Tenant | None] = ContextVar("cgk_tenant", default=None)


def current_tenant() -> Tenant:
    """The tenant of this context. Raises TenantMissingError outside of one."""
    tenant = _tenant.get()
    if tenant is None:
        raise TenantMissingError("This code")
    return tenant


def find_current_tenant() -> Tenant | None:
    """The tenant of this context, or None."""
    return _tenant.get()


@contextmanager
def tenant_context(tenant: str | Tenant) -> Iterator[Tenant]:
    """Run the block for one tenant.

        with tenant_context("acme") as tenant:
            send_job("order.created", {...})

    Raises InvalidTenantError or UnknownTenantError, and TenantContextError when the block already runs for another
    tenant: leave that one first, or say `platform_context()` if the code really works for several.
    """
    if isinstance(tenant, str):
        tenant = registry.require(tenant)
    outer = _tenant.get()
    if outer is not None and outer.id != tenant.id:
        raise TenantContextError(
            f"tenant_context({tenant.id!r}) was opened inside the context of tenant {outer.id!r}.",
            hint="Close that one first, or use platform_context() around code that works for several tenants.",
        )
    import structlog  # here: see cgk_tasks.logger

    token = _tenant.set(tenant)
    bound = structlog.contextvars.bind_contextvars(tenant=tenant.id)
    try:
        yield tenant
    finally:
        try:
            _tenant.reset(token)
        except ValueError:
            raise TenantContextError(
                f"tenant_context({tenant.id!r}) was left in another thread than it was entered in, so nothing between "
                "the two ran for the tenant.",
                hint="In FastAPI write the dependency that opens it as async def.",
            ) from None
        structlog.contextvars.reset_contextvars(**bound)


def keep_tenant(function: Callable[P, R]) -> Callable[P, R]:
    """The function, to be called in another thread, where it runs for the tenant of this context.

        with tenant_context("acme"), ThreadPoolExecutor() as pool:
            list(pool.map(keep_tenant(send_report.delay), reports))

    A new thread begins without a context. The tenant alone goes with it: a transaction that is open here, and the run
    that a job works on, belong to their own thread. Raises TenantMissingError where there is no tenant.
    """
    tenant = current_tenant()

    @wraps(function)
    def for_tenant(*args: P.args, **kwargs: P.kwargs) -> R:
        with tenant_context(tenant):
            return function(*args, **kwargs)

    return for_tenant


def set_current_tenant(tenant: Tenant) -> Token[Tenant | None]:
    """What `tenant_context` does, without its checks and its place in the logs: for the worker, once a run.

    Give what it returns to `reset_current_tenant`.
    """
    return _tenant.set(tenant)


def reset_current_tenant(token: Token[Tenant | None]) -> None:
    _tenant.reset(token)


@contextmanager
def platform_context() -> Iterator[None]:
    """Run the block for the platform itself: no tenant, and tenant contexts of any tenant may be opened inside."""
    token = _tenant.set(None)
    try:
        yield
    finally:
        _tenant.reset(token)
