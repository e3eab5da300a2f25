"""The step that runs just now: its database session, which commits with its memo."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.extras import require_extra

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cgk_tasks.tenancy.database import TenantSession
    from cgk_tasks.tenancy.models import Tenant

_scope: ContextVar[StepScope | None] = ContextVar("cgk_step", default=None)


class StepScope:
    """Of one call of a step's function. session: None as long as nobody has asked for it."""

    __slots__ = ("name", "session", "tenant")

    def __init__(self, name: str, tenant: Tenant) -> None:
        self.name = name
        self.tenant = tenant
        self.session: TenantSession | None = None

    def close(self) -> None:
        """Roll back what is not committed and give the connection back."""
        session, self.session = self.session, None
        if session is not None:
            session.close()


@contextmanager
def step_scope(name: str, tenant: Tenant) -> Iterator[StepScope]:
    """Around a step. Raises ConfigurationError inside of another one."""
    refuse_in_step(name)
    scope = StepScope(name, tenant)
    token = _scope.set(scope)
    try:
        yield scope
    finally:
        _scope.reset(token)
        scope.close()


def refuse_in_step(name: str) -> None:
    """Raises ConfigurationError where a step asks for another one."""
    outer = _scope.get()
    if outer is not None:
        raise ConfigurationError(
            f"The step {name!r} was asked for inside of the step {outer.name!r}.",
            hint="A step is done once and as a whole: ask for both in the workflow's function, one after the other.",
        )


def is_in_step() -> bool:
    return _scope.get() is not None


def session_of_step(has_database: bool) -> Session:
    """The tenant's session of the step that runs. Raises ConfigurationError outside of one."""
    scope = _scope.get()
    if scope is None:
        raise ConfigurationError(
            "wf.db was used outside of a step.",
            hint="A workflow's function runs again from the top at each leg: write in a step, which commits once.",
        )
    if not has_database:
        raise ConfigurationError("wf.db needs a database.", hint="Set CGK_DATABASE_URL.")
    if scope.session is None:
        require_extra("worker", "wf.db")
        from cgk_tasks.tenancy.database import TenantSession

        scope.session = TenantSession(scope.tenant)
        scope.session.begin()
    return scope.session
