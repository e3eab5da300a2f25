"""Making a connection to PostgreSQL, whatever the server, the database or the login sets by default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import psycopg

Connection = psycopg.Connection[Any]

CONNECT_WITH: Final[dict[str, Any]] = {"connect_timeout": 5, "application_name": "cgk_tasks", "client_encoding": "UTF8"}
"""Unless the URL says otherwise."""

FORMATS: Final = {"DateStyle": "ISO", "IntervalStyle": "postgres"}
"""What drivers read values by."""
OF_THE_RECORD: Final = {
    "TimeZone": "UTC",
    "default_transaction_isolation": "read committed",
    # A plan that is kept from a time when the open runs were two pages would read all of a backlog for each run.
    "enable_seqscan": "off",
    "jit": "off",  # which before PostgreSQL 18 would take the cost of the few scans that there are for real
}
"""For the statements of cgk_tasks, which are written for these. An application's own SQL keeps what its database
says.
"""

_READABLE: Final = {"IntervalStyle": FORMATS["IntervalStyle"]}

REFUSED_BY_A_POOLER: Final = "unsupported startup parameter"


def startup_options(settings: Mapping[str, str], given: str = "") -> str:
    """Settings as libpq's `options`; those that the URL gives come later, and so win."""
    ours = " ".join(f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in settings.items())
    return f"{ours} {given}".strip()


@dataclass(frozen=True, slots=True)
class Preparing:
    """After how many times a statement is prepared; None: never. behind_a_pooler: where one is noticed."""

    directly: int | None
    behind_a_pooler: int | None


def connect(
    values: Mapping[str, Any],
    settings: Mapping[str, str] = _READABLE,
    *,
    preparing: Preparing,
    autocommit: bool = False,
) -> Connection:
    """A connection whose values can be read, with these settings. Raises psycopg.Error."""
    connection = _with_options(values, settings, preparing, autocommit=autocommit)
    try:
        make_readable(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _with_options(
    values: Mapping[str, Any], settings: Mapping[str, str], preparing: Preparing, *, autocommit: bool
) -> Connection:
    """The settings travel with the login, at no cost. PgBouncer refuses that, and so is noticed; behind it there is one
    that it follows from client to client, and what it does not follow is not set, for it would stay with another
    client.
    """
    options = startup_options(settings, str(values.get("options", "")))
    try:
        return psycopg.connect(
            **{**values, "options": options}, autocommit=autocommit, prepare_threshold=preparing.directly
        )
    except psycopg.OperationalError as exc:
        if REFUSED_BY_A_POOLER not in str(exc) or "options" in values:
            raise
    connection = psycopg.connect(**values, autocommit=autocommit, prepare_threshold=preparing.behind_a_pooler)
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
