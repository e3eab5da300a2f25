"""Making a connection to PostgreSQL, whatever the server, the database or the login sets by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import psycopg

Connection = psycopg.Connection[Any]

CONNECT_WITH: Final[dict[str, Any]] = {"connect_timeout": 5, "application_name": "cgk_tasks", "client_encoding": "UTF8"}
"""Unless the URL says otherwise."""

FORMATS: Final = {"DateStyle": "ISO", "IntervalStyle": "postgres"}
"""What drivers read values by."""
OF_THE_RECORD: Final = {"TimeZone": "UTC", "default_transaction_isolation": "read committed"}
"""For the statements of cgk_tasks, which are written for these. An application's own SQL keeps what its database
says.
"""

REFUSED_BY_A_POOLER: Final = "unsupported startup parameter"


def startup_options(settings: Mapping[str, str], given: str = "") -> str:
    """Settings as libpq's `options`; those that the URL gives come later, and so win."""
    ours = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
    return f"{ours} {given}".strip()


def connect(
    values: Mapping[str, Any],
    settings: Mapping[str, str] | None = None,
    *,
    prepare_threshold: int | None,
    autocommit: bool = False,
) -> Connection:
    """A connection whose values can be read, with these settings. Raises psycopg.Error."""
    how: dict[str, Any] = {"autocommit": autocommit, "prepare_threshold": prepare_threshold}
    connection = _with_options(values, settings, how) if settings else psycopg.connect(**values, **how)
    try:
        make_readable(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _with_options(values: Mapping[str, Any], settings: Mapping[str, str], how: Mapping[str, Any]) -> Connection:
    """The settings travel with the login, at no cost. PgBouncer refuses that; behind it there is one that it follows
    from client to client, and what it does not follow is not set, for it would stay with another client.
    """
    options = startup_options(settings, str(values.get("options", "")))
    try:
        return psycopg.connect(**{**values, "options": options}, **how)
    except psycopg.OperationalError as exc:
        if REFUSED_BY_A_POOLER not in str(exc) or "options" in values:
            raise
    connection = psycopg.connect(**values, **how)
    if "TimeZone" in settings:
        _set(connection, "TimeZone", settings["TimeZone"])
    return connection


def make_readable(connection: Connection) -> None:
    """PostgreSQL tells its formats at the login. The order of day and month in what an application writes stays as it
    is.
    """
    for name, value in FORMATS.items():
        told = connection.info.parameter_status(name)
        if told is not None and told.partition(",")[0] != value:
            _set(connection, name, value)


def _set(connection: Connection, name: str, value: str) -> None:
    connection.pgconn.exec_(f"SET {name} TO '{value}'".encode())
