"""Watches what runs on the connection of a tenant's session.

A transaction that has entered a tenant is recognised without a round trip: PostgreSQL tells the client each change of
`application_name`, and the one that entering sets ends with the transaction. A statement that would run outside of it
is refused.

The looks are made where SQLAlchemy calls the driver: a listener of the engine's own events, even of one of them, makes
each of its statements and transactions pass all of them, which costs several times the look.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final
from weakref import WeakKeyDictionary, WeakSet

import psycopg
import sqlalchemy as sa
from psycopg.pq import TransactionStatus
from sqlalchemy import event

from cgk_tasks.errors import TenantContextError
from cgk_tasks.sql.connecting import make_readable
from cgk_tasks.sql.postgres import AnyConnection, Connection, script
from cgk_tasks.sql.statements import Statement
from cgk_tasks.tenancy.models import Tenant

MARK: Final = "cgk_tasks in a tenant"
_MARK: Final = MARK.encode()

_HINT: Final = (
    "Leave the transaction of ctx.db to cgk_tasks; for a part that may fail alone use session.begin_nested()."
)

_ENDS: Final = re.compile(
    r"\s*(?:COMMIT|END|ABORT|PREPARE\s+TRANSACTION|ROLLBACK(?!\s+(?:(?:WORK|TRANSACTION)\s+)?TO\b))\b", re.IGNORECASE
)
_OUTLIVES: Final = re.compile(
    r"(?:^|;)\s*(?:SET\s+(?!LOCAL\b|CONSTRAINTS\b|TRANSACTION\b)|DO\b|CALL\b|PREPARE\b|LISTEN\b)"
    r"|\bWITH\s+HOLD\b|\bset_config\s*\(|\bpg_(?:try_)?advisory_lock",
    re.IGNORECASE,
)
_PREPARES: Final = re.compile(r"\bPREPARE\b", re.IGNORECASE)

_CLEAN: Final = b"CLOSE ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); RESET ALL; DISCARD TEMP"

_guards: WeakKeyDictionary[sa.Connection, Guard] = WeakKeyDictionary()
_watched: WeakSet[sa.Engine] = WeakSet()
_looked_at: WeakSet[sa.engine.Dialect | sa.Pool] = WeakSet()


class Guard:
    """One transaction of a tenant's session. driver: psycopg's connection, or another driver's, which tells less.
    at_commit: done last in the transaction, outside of the tenant. not_written: what that raised.
    """

    __slots__ = ("at_commit", "broken", "driver", "leaves", "not_written", "prepares", "tenant")

    def __init__(self, tenant: Tenant, driver: Any) -> None:
        self.tenant = tenant
        self.driver = driver if isinstance(driver, psycopg.Connection) else None
        self.at_commit: Callable[[AnyConnection], None] | None = None
        self.not_written: BaseException | None = None
        self.broken: TenantContextError | None = None
        self.leaves = self.prepares = False

    @property
    def has_lost_connection(self) -> bool:
        return self.driver is not None and self.driver.closed

    def require(self) -> None:
        """Raise TenantContextError unless the open transaction is the one that has entered the tenant."""
        if self.broken is not None:
            raise self.broken
        driver = self.driver
        if driver is None:
            return
        status = driver.pgconn.transaction_status
        if status == TransactionStatus.INTRANS:
            if driver.pgconn.parameter_status(b"application_name") == _MARK or self._is_inside(driver):
                return
        elif status != TransactionStatus.IDLE:
            return  # PostgreSQL takes nothing but the end of a failed transaction, or is at work
        self.leaves = True
        self.broken = TenantContextError(
            f"The transaction of tenant {self.tenant.id!r} was ended by the job's own SQL. What it had written may be "
            "committed without the run's end: it is not exactly once any more.",
            hint=_HINT,
        )
        raise self.broken

    def commit(self) -> None:
        """In place of the driver's method, which SQLAlchemy calls, until the connection is back in the pool."""
        driver = self.driver
        assert driver is not None  # whose method it is
        self.before_commit(driver)
        type(driver).commit(driver)

    def before_commit(self, connection: AnyConnection) -> None:
        """What has to be done before the transaction commits. Raises TenantContextError, and what `at_commit` does."""
        self.require()
        if self.leaves and self.driver is not None:
            # Within the transaction: behind PgBouncer the next one may be on another server's connection.
            script(self.driver, b"SET CONSTRAINTS ALL IMMEDIATE; SET LOCAL ROLE NONE; " + _CLEAN)
        if (action := self.at_commit) is not None:
            self.at_commit = None
            try:
                action(connection)
            except BaseException as exc:
                self.not_written = exc
                raise

    def _is_inside(self, driver: Connection) -> bool:
        """The job itself may have changed `application_name`: PostgreSQL is asked."""
        self.leaves = True
        row = driver.execute("SELECT current_setting('cgk.tenant_id', true) AS id").fetchone()
        return row is not None and next(iter(row.values() if isinstance(row, dict) else row)) == self.tenant.id


def watch(engine: sa.Engine) -> None:
    """Have the statements of tenants' sessions on this engine looked at."""
    if engine in _watched:
        return
    dialect, pool = engine.dialect, engine.pool
    if dialect not in _looked_at:  # an engine's variants with other options share it
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            event.listen(dialect, name, _before_statement)
        _looked_at.add(dialect)
    if pool not in _looked_at:
        event.listen(pool, "checkin", _clean)
        _looked_at.add(pool)
    if dialect.driver != "psycopg":
        event.listen(engine, "commit", _before_commit)
    _watched.add(engine)


def guard(connection: sa.Connection, tenant: Tenant) -> Guard:
    """Guard the transaction that has just entered the tenant. Raises TenantContextError if there is none."""
    made = Guard(tenant, connection.connection.driver_connection)
    if made.driver is not None and made.driver.pgconn.transaction_status == TransactionStatus.IDLE:
        raise TenantContextError(
            f"A session of tenant {tenant.id!r} cannot work with isolation_level AUTOCOMMIT: without a transaction "
            "nothing confines it.",
            hint="Leave the isolation level out, or choose another one.",
        )
    _guards[connection] = made
    if made.driver is not None:
        vars(made.driver)["commit"] = made.commit
    return made


def _before_statement(_cursor: Any, statement: str, *arguments: Any) -> None:
    context: sa.engine.ExecutionContext = arguments[-1]
    found = _guards.get(context.root_connection)
    if found is None:
        return
    found.require()
    if isinstance(statement, Statement):
        return  # of cgk_tasks itself, such as a send in the session's transaction
    ends, found_leaves, prepares = _kind_of(statement)
    if ends:
        raise TenantContextError(
            f"A session of tenant {found.tenant.id!r} was asked to {statement.strip()[:40]!r}, which would end its "
            "transaction.",
            hint=_HINT,
        )
    found.leaves |= found_leaves
    found.prepares |= prepares


@lru_cache(maxsize=1024)
def _kind_of(statement: str) -> tuple[bool, bool, bool]:
    """Whether it ends the transaction, may leave something on the connection, and may leave a prepared statement."""
    leaves = _OUTLIVES.search(statement) is not None
    return _ENDS.match(statement) is not None, leaves, leaves and _PREPARES.search(statement) is not None


def _before_commit(connection: sa.Connection) -> None:
    """Of drivers whose connections cannot be given another method."""
    found = _guards.get(connection)
    if found is not None:
        found.before_commit(connection)


def _clean(dbapi_connection: Any, record: Any) -> None:
    """What a job may have left does not reach the next user of the connection."""
    driver = getattr(dbapi_connection, "driver_connection", dbapi_connection)
    commit = vars(driver).pop("commit", None) if isinstance(driver, psycopg.Connection) else None
    if commit is None:
        return
    found: Guard = commit.__self__
    if not found.leaves or driver.closed:
        return
    if found.prepares:
        record.invalidate()  # DEALLOCATE ALL would take the driver's own with it
        return
    try:
        script(driver, _CLEAN)
        make_readable(driver)
    except psycopg.Error:
        record.invalidate()
    except BaseException:
        record.invalidate()  # an interrupt came between: the connection is amid an answer
        raise
