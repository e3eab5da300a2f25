"""The SQLAlchemy engine of this process, for sessions. What cgk_tasks itself reads and writes goes past it."""

from __future__ import annotations

import os
import threading

import sqlalchemy as sa

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.postgres import close_with_pools, is_open, parameters


def sqlalchemy_url(url: str) -> sa.URL:
    """The URL for SQLAlchemy with the psycopg driver, whatever driver the URL names."""
    parameters(url)
    try:
        return sa.make_url(url).set(drivername="postgresql+psycopg")
    except (sa.exc.ArgumentError, ValueError):
        raise ConfigurationError("CGK_DATABASE_URL is not a URL like postgresql://user:password@host/name") from None


class _Engines:
    """Engines by process: a child never uses a connection (or a lock) that it inherited over fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._engines: dict[str, sa.Engine] = {}

    def engine(self, url: str) -> sa.Engine:
        if self._pid != os.getpid():
            self._lock, self._pid, self._engines = threading.Lock(), os.getpid(), {}
        engine = self._engines.get(url)
        if engine is None:
            with self._lock:
                engine = self._engines.setdefault(url, _new_engine(url))
        return engine

    def close(self) -> None:
        if self._pid == os.getpid():
            for engine in self._engines.values():
                engine.dispose()
        self._engines = {}


def _new_engine(url: str) -> sa.Engine:
    engine = sa.create_engine(
        sqlalchemy_url(url),
        pool_size=5,
        max_overflow=40,
        pool_recycle=1800,
        pool_use_lifo=True,  # the same connection again and again: its prepared statements stay warm
        connect_args={"connect_timeout": 5, "application_name": "cgk_tasks"},
    )
    sa.event.listen(engine, "checkout", _require_open)
    return engine


def _require_open(connection: object, _record: object, _proxy: object) -> None:
    """The pool gives out a new connection in place of one that PostgreSQL closed."""
    if not is_open(connection):  # type: ignore[arg-type]  # the driver's own
        raise sa.exc.InvalidatePoolError("PostgreSQL closed the connection while it was idle.")


_engines = _Engines()
close_with_pools(_engines.close)


def engine() -> sa.Engine:
    """The SQLAlchemy engine of this process for CGK_DATABASE_URL."""
    return _engines.engine(get_settings().database)
