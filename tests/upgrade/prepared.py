"""Whether PostgreSQL accepts the statements of a release on the schema as it is, without running them."""

import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.pq import ExecStatus

from tests.upgrade.release import Release

_BLOCK = re.compile(r"^-- name: (\w+)\n", re.MULTILINE)
_PARAMETER = re.compile(r"%\((\w+)\)s")
_STATEMENT = re.compile(r"(?:SELECT|INSERT|UPDATE|DELETE|WITH|COPY)\b(?!.*\{\w+\})", re.DOTALL)

Answer = tuple[tuple[str, int], ...] | str
"""The names and types of a statement's columns; or PostgreSQL's error."""


def prepared_statements(release: Release, url: str) -> dict[str, Answer]:
    """What PostgreSQL says to each statement in the release's .sql files: it is prepared and planned."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET plan_cache_mode = force_generic_plan")
        return {
            f"{path.stem}.{name}": _prepare(connection, statement)
            for path in release.sql
            for name, statement in _statements(path)
        }


def _statements(path: Path) -> Iterator[tuple[str, str]]:
    """Conditions that the code puts into others are left out, and what is made of nothing but others."""
    parts = _BLOCK.split(path.read_text(encoding="utf-8"))
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        lines = [line for line in body.replace("{where}", "").splitlines() if not line.startswith("--")]
        statement = "\n".join(lines).strip().rstrip(";")
        if _STATEMENT.match(statement):
            yield name, statement


def _prepare(connection: psycopg.Connection, statement: str) -> Answer:
    names = list(dict.fromkeys(_PARAMETER.findall(statement)))
    text = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", statement)
    try:
        if "FROM STDIN" in text:
            with connection.cursor() as cursor, cursor.copy(text):  # of no rows
                return ()
        return _described(connection, text.replace("%%", "%") if names else text, len(names))
    except psycopg.Error as error:
        return str(error)


def _described(connection: psycopg.Connection, text: str, parameters: int) -> Answer:
    raw = connection.pgconn
    prepared = raw.prepare(b"checked", text.encode())
    if prepared.status != ExecStatus.COMMAND_OK:
        return prepared.error_message.decode()
    try:
        described = raw.describe_prepared(b"checked")
        values = ", ".join(["NULL"] * parameters)
        connection.execute(f"EXPLAIN EXECUTE checked{f'({values})' if values else ''}")  # planned: ON CONFLICT too
        return tuple((described.fname(at).decode(), described.ftype(at)) for at in range(described.nfields))
    finally:
        connection.execute("DEALLOCATE checked")
