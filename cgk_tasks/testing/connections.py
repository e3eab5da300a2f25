"""The connections to PostgreSQL of a process that dies in a proof: the operating system would close them."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NoReturn
from weakref import WeakSet

import psycopg
import sqlalchemy as sa
from sqlalchemy import event

from cgk_tasks.runtime import Runtime, current_runtime
from cgk_tasks.sql.postgres import POOL, autocommit, fetch, statements
from cgk_tasks.sql.sqlalchemy_engine import ENGINE
from cgk_tasks.tenancy.database import TenantSession
from cgk_tasks.testing.crash_points import Crash

SQL = statements("testing")


class Connections:
    """Those of a runtime, also where threads that go on have them in use."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._is_closed = False
        self._pids: list[int] = []
        self._sessions: WeakSet[TenantSession] = WeakSet()
        with runtime.active():
            event.listen(ENGINE.current(), "connect", self._connected)
        event.listen(TenantSession, "after_begin", self._begun)

    def _connected(self, connection: psycopg.Connection[Any], _record: Any) -> None:
        if self._is_closed:
            connection.close()
            raise Crash("its process is dead")
        self._pids.append(connection.info.backend_pid)

    def _begun(self, session: TenantSession, *_: Any) -> None:
        if current_runtime() is self._runtime:
            self._sessions.add(session)

    def close(self) -> None:
        """Close the runtime, and end what is left of it in PostgreSQL, so that it rolls back."""
        event.remove(TenantSession, "after_begin", self._begun)
        self._is_closed = True
        with self._runtime.active():
            pids = [*self._pids, *POOL.current().backends]
            self._runtime.close()
            self._runtime.put(ENGINE, sa.create_engine("postgresql+psycopg://", creator=_refuse))
        with autocommit() as connection:
            fetch(connection, SQL["end_backends"], {"pids": pids})
        for session in list(self._sessions):
            with suppress(sa.exc.SQLAlchemyError, psycopg.Error):
                session.invalidate()  # else SQLAlchemy would try to roll back, and log that it cannot


def _refuse() -> NoReturn:
    """A thread that goes on opens no further connection."""
    raise Crash("its process is dead")
