"""A tenant's own database session: its transactions cannot see another tenant's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from cgk_tasks.errors import TenantContextError
from cgk_tasks.sql.postgres import AnyConnection, execute, fetch, script, statements
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.context import current_tenant, find_current_tenant
from cgk_tasks.tenancy.guard import MARK, Guard, guard, watch
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.names import problem_of

SQL = statements("tenants")


class TenantSession(Session):
    """A SQLAlchemy session bound to one tenant. Every transaction begins by entering the tenant's schema and role."""

    def __init__(self, tenant: Tenant, bind: sa.Engine | None = None) -> None:
        bound = bind or engine()
        watch(bound)
        super().__init__(bound, expire_on_commit=False)
        self.tenant = tenant if tenant.registered else registry.require(tenant.id)
        self.guard: Guard | None = None

    @property
    def is_listened_to(self) -> bool:
        """Whether somebody acts when it has committed."""
        return bool(self.dispatch.after_commit)

    def commit_with(self, write: Callable[[AnyConnection], None]) -> None:
        """Commit, with `write` as the last in the same transaction: outside of the tenant, to write to the schema cgk.

        What listens to the session before its commit still works inside the tenant. Rolls back when anything raises, so
        that the session begins inside its tenant again. Raises TenantContextError when the job ended its transaction.
        """
        self.connection()
        found = self.guard
        assert found is not None  # set when the transaction began

        def leave_and_write(connection: AnyConnection) -> None:
            leave_tenant(connection)
            write(connection)

        found.at_commit = leave_and_write
        try:
            self.commit()
        except BaseException:
            if found.has_lost_connection:
                self.invalidate()
            else:
                self.rollback()
            if found.not_written is not None:
                raise found.not_written from found.not_written.__cause__  # and not what SQLAlchemy makes of it
            raise

    def close(self) -> None:
        """Roll back and give the connection back. One that was lost is thrown away: SQLAlchemy, which may not know of
        it, would try to roll back and log that it cannot.
        """
        if self.guard is not None and self.guard.has_lost_connection:
            self.invalidate()
        else:
            super().close()

    def get_bind(self, *args: Any, **kwargs: Any) -> sa.Engine | sa.Connection:
        """Refuses to work outside its tenant's context: a session that was kept too long must not be used there."""
        here = find_current_tenant()
        if here is None or here.id != self.tenant.id:
            place = f"in the context of tenant {here.id!r}" if here else "outside of its tenant's context"
            raise TenantContextError(
                f"A session of tenant {self.tenant.id!r} was used {place}.",
                hint="Do not keep sessions between runs; ask for ctx.db or tenant_session() each time.",
            )
        return super().get_bind(*args, **kwargs)


@event.listens_for(TenantSession, "after_begin")
def _enter(session: TenantSession, transaction: SessionTransaction, connection: sa.Connection) -> None:
    if not transaction.nested:  # a savepoint is inside a transaction that has entered
        if session.guard is not None and session.guard.broken is not None:
            raise session.guard.broken  # what it wrote before may be committed already, so nothing may follow
        enter_tenant(connection, session.tenant)
        session.guard = guard(connection, session.tenant)


def enter_tenant(connection: sa.Connection, tenant: Tenant) -> None:
    """Confine the open transaction to the tenant: schema, role, and the setting that row-level policies read."""
    driver = connection.connection.driver_connection
    if isinstance(driver, psycopg.Connection) and _is_plain_and_idle(driver):
        # The transaction begins in the same round trip: half the time of the two.
        rows = script(driver, _begin_for(tenant, driver.info.encoding))[-1]
        has_temporary_tables = rows.get_value(0, 4) == b"t"
    else:
        has_temporary_tables = fetch(connection, SQL["enter_tenant"], _confines(tenant))[0]["has_temporary_tables"]
    if has_temporary_tables:
        execute(connection, SQL["forget_temporary_tables"])


def _confines(tenant: Tenant) -> dict[str, str]:
    problem = problem_of(tenant)  # it may have been registered before such names were refused
    if problem is not None:
        raise problem
    return {
        "search_path": f"{sql.Identifier(tenant.schema_name).as_string(None)}, pg_temp",
        "tenant_id": tenant.id,
        "role": tenant.role_name or "none",
        "mark": MARK,
    }


@lru_cache(maxsize=1024)
def _begin_for(tenant: Tenant, encoding: str) -> bytes:
    """BEGIN and `enter_tenant` as one text: PostgreSQL takes several statements at once only without parameters."""
    entering: str = SQL["enter_tenant"]
    for name, value in _confines(tenant).items():
        entering = entering.replace(f"%({name})s", sql.Literal(value).as_string(None))
    return f"BEGIN; {entering}".encode(encoding)


def _is_plain_and_idle(driver: psycopg.Connection[Any]) -> bool:
    return (
        driver.pgconn.transaction_status == TransactionStatus.IDLE
        and not driver.autocommit
        and (driver.isolation_level, driver.read_only, driver.deferrable) == (None, None, None)
    )


def leave_tenant(connection: AnyConnection) -> None:
    """Take the open transaction back to the login's own role and path, to record the run's end in the schema cgk.

    What was deferred to the commit is checked before, still as the tenant. Raises the driver's errors.
    """
    if isinstance(connection, psycopg.Connection):
        script(connection, "; ".join(_LEAVE).encode())
        return
    for statement in _LEAVE:
        execute(connection, statement)


_LEAVE = (
    "SET CONSTRAINTS ALL IMMEDIATE",
    "SET LOCAL ROLE NONE",
    "SET LOCAL search_path TO DEFAULT",  # under another tenant's, PostgreSQL would plan the statements that follow anew
)


@contextmanager
def outside_tenant(session: Session) -> Iterator[sa.Connection]:
    """The session's connection with the login's own rights, to write to the schema cgk in the session's transaction.

    For the length of the block; afterwards a tenant's session is confined again, also when the block raises.
    """
    connection = session.connection()
    if not isinstance(session, TenantSession):
        yield connection
        return
    path = fetch(connection, SQL["step_outside"])[0]["search_path"]
    confined = {"role": session.tenant.role_name or "none", "search_path": path}
    try:
        yield connection
    except sa.exc.DBAPIError:
        raise  # nothing more is possible in this transaction, and the rollback that ends this restores the role
    except BaseException:
        fetch(connection, SQL["step_inside"], confined)
        raise
    fetch(connection, SQL["step_inside"], confined)


@contextmanager
def tenant_session() -> Iterator[Session]:
    """A session for the current tenant: commits at the end of the block, rolls back on an exception.

        with tenant_context("acme"), tenant_session() as session:
            session.execute(text("INSERT INTO orders ..."))

    Raises TenantMissingError outside of a tenant context.
    """
    with TenantSession(current_tenant()) as session, session.begin():
        yield session
