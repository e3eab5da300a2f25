"""The SQLAlchemy engine, for sessions. What cgk_tasks itself reads and writes goes past it."""

from __future__ import annotations

import sqlalchemy as sa

from cgk_tasks.config import get_settings
from cgk_tasks.runtime import Part
from cgk_tasks.sql.connecting import CONNECT_WITH, Connection, connect
from cgk_tasks.sql.pool import is_open
from cgk_tasks.sql.postgres import close_with_pools, preparing
from cgk_tasks.sql.urls import parameters


def sqlalchemy_url(url: str) -> sa.URL:
    """The URL for SQLAlchemy with the psycopg driver, whatever driver the URL names."""
    found = {name: str(value) for name, value in parameters(url).items()}
    return sa.URL.create(
        "postgresql+psycopg",
        username=found.pop("user", None),
        password=found.pop("password", None),
        database=found.pop("dbname", None),
        query=found,
    )


def _new_engine() -> sa.Engine:
    settings = get_settings()
    values = CONNECT_WITH | parameters(settings.database)

    def connect_now() -> Connection:
        return connect(values, preparing=preparing(settings))

    engine = sa.create_engine(
        "postgresql+psycopg://",  # and no URL: no error and no log of the engine has the password
        creator=connect_now,
        pool_size=5,
        max_overflow=40,
        pool_recycle=1800,
        pool_use_lifo=True,  # the same connection again and again: its prepared statements stay warm
    )
    sa.event.listen(engine, "checkout", _require_open)
    return engine


def _require_open(connection: object, _record: object, _proxy: object) -> None:
    """The pool gives out a new connection in place of one that PostgreSQL closed."""
    if not is_open(connection):  # type: ignore[arg-type]  # the driver's own
        raise sa.exc.InvalidatePoolError("PostgreSQL closed the connection while it was idle.")


ENGINE = close_with_pools(Part(_new_engine, close=sa.Engine.dispose))


def engine() -> sa.Engine:
    """The SQLAlchemy engine of the current runtime for CGK_DATABASE_URL."""
    return ENGINE.current()
