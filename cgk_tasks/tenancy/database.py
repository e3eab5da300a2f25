"""A tenant's own database session: its transactions cannot see another tenant's rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
import sqlalchemy as sa
from psycopg import errors as pg_errors
from psycopg import sql
from psycopg.pq import TransactionStatus
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from cgk_tasks.errors import TenantContextError
from cgk_tasks.sql.door import are_guarded, are_observed, observed
from cgk_tasks.sql.postgres import AnyConnection, execute, fetch, script, statements
from cgk_tasks.sql.prepared import prepared_on
from cgk_tasks.sql.sqlalchemy_engine import engine
from cgk_tasks.sql.statements import Statement
from cgk_tasks.sql.together import Sent, together
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.context import current_tenant, find_current_tenant
from cgk_tasks.tenancy.guard import MARK, Guard, guard, watch
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.tenancy.names import problem_of

if TYPE_CHECKING:
    from psycopg.pq.abc import PGresult

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

    def commit_with(self, write: Callable[[AnyConnection], None], at_once: Last | None = None) -> None:
        """Commit, with `write` as the last in the same transaction: outside of the tenant, to write to the schema cgk.

        at_once: a statement that does what `write` does, and fails where that would raise. It is sent together with the
        COMMIT where possible; `write` is not called then.

        What listens to the session before its commit still works inside the tenant. Rolls back when anything raises, so
        that the session begins inside its tenant again. Raises TenantContextError when the job ended its transaction.
        """
        self.connection()
        found = self.guard
        assert found is not None  # set when the transaction began

        def leave_and_write(connection: AnyConnection) -> None:
            # What the job has prepared may have the name of a statement that is prepared here.
            if at_once is not None and not found.prepares and _is_committed(connection, at_once):
                return
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
        try:
            has_temporary_tables = _begin_in(driver, tenant).get_value(0, 4) == b"t"
        except BaseException:
            if driver.closed:  # because nobody can tell what was done; SQLAlchemy would try to roll back
                connection.invalidate()
            raise
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


def _begin_in(driver: psycopg.Connection[Any], tenant: Tenant) -> PGresult:
    statements = _begin_for(tenant)
    answer = together(driver, statements)
    if answer.is_forgotten:  # what was prepared; nothing has happened
        _roll_back(driver)
        prepared_on(driver).forget()
        answer = together(driver, statements)
    if answer.failed is not None:
        error = pg_errors.error_from_result(answer.failed)
        _roll_back(driver)
        raise error
    return answer.done[-1]


def _roll_back(driver: psycopg.Connection[Any]) -> None:
    if driver.pgconn.transaction_status != TransactionStatus.IDLE:
        script(driver, b"ROLLBACK")


@lru_cache(maxsize=1024)
def _begin_for(tenant: Tenant) -> tuple[Sent, ...]:
    return Sent(SQL["begin"]), Sent(SQL["enter_tenant"], _confines(tenant))


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


_LEAVE: Final = (SQL["check_constraints"], SQL["leave_role"], SQL["leave_path"], SQL["leave_scans"])
# The first is not prepared, so that it is done whatever the driver or the job has let PostgreSQL forget.
_LEAVE_TOGETHER: Final = (Sent(SQL["begin_end"], is_prepared=False), *map(Sent, _LEAVE))
_BACK: Final = b"ROLLBACK TO cgk_end"
_COMMIT: Final = Sent(SQL["commit"])


class Last(NamedTuple):
    """The last statement of a transaction. values: asked for when it is time to send it. refused: what is raised in
    place of its error.
    """

    statement: Statement
    values: Callable[[], Mapping[str, Any]]
    refused: Callable[[psycopg.Error], Exception]


def _is_committed(connection: AnyConnection, last: Last) -> bool:
    """Leave the tenant, execute the statement and commit, in one round trip. False where nothing of it has happened,
    because it cannot be done so. Raises what PostgreSQL has against it.
    """
    if not isinstance(connection, psycopg.Connection) or are_guarded():
        return False  # whoever tests a process that dies wants to be asked between a statement and its COMMIT
    end = partial(_end, refused=last.refused)
    run = partial(observed, end) if are_observed() else end
    return run(connection, last.statement, last.values())


def _end(
    connection: psycopg.Connection[Any],
    statement: Statement,
    values: Mapping[str, Any],
    refused: Callable[[psycopg.Error], Exception],
) -> bool:
    answer = together(connection, (*_LEAVE_TOGETHER, Sent(statement, values), _COMMIT))
    if answer.failed is None:
        return True
    if answer.is_forgotten:
        script(connection, _BACK)
        prepared_on(connection).forget()
        return False
    error = pg_errors.error_from_result(answer.failed)
    if len(answer.done) == len(_LEAVE_TOGETHER):
        raise refused(error) from error
    raise error


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
