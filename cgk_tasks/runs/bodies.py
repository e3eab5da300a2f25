"""Large payloads stand in a table of their own, cgk.run_bodies, and the row of their run has a reference to them.

A run is moved into the history when it ends. A payload in its row would be written there once more; here it is written
once, when the run is sent, and stays. What refers to it is told from what is sealed by its first byte, which no text in
UTF-8 has. Whatever opens a payload (`runs.sealing`) finds it either way.

A body is kept for as long as its run is on record (`runs.partitions`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
from psycopg.pq import TransactionStatus

from cgk_tasks.config import get_settings
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import AnyConnection, Row, autocommit, execute, fetch, fetch_as, statements, uuid_array

SQL = statements("bodies")

FROM_CHARACTERS: Final = 8_192
"""Shorter payloads stay in the row of their run: to move it with them takes less processor time than a row here."""

_MARK: Final = b"\xfe"
_LENGTH: Final = 33
_BYTES_AT_ONCE: Final = 1_000_000


class Body(NamedTuple):
    """What is to be kept for a run: its payload, sealed with the key of its row."""

    run_id: str
    tenant_id: str
    sealed: bytes


class _Knowledge:
    """Whether everybody who works on this database can read bodies, as of CGK_RULES_REFRESH_SECONDS ago at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ask_at = 0.0
        self._yes = False

    def is_everybodys(self, connection: AnyConnection) -> bool:
        if time.monotonic() >= self._ask_at:
            with self._lock:
                settings = get_settings()
                values = {"timeout": settings.worker_timeout_seconds}
                self._yes = bool(fetch(connection, SQL["are_known"], values)[0]["yes"])
                self._ask_at = time.monotonic() + settings.rules_refresh_seconds
        return self._yes


_KNOWLEDGE = Part(_Knowledge)


def are_kept(connection: AnyConnection) -> bool:
    """Whether large payloads may be kept apart now. Not before the table is there and no worker of a release lives that
    does not know it.
    """
    return _KNOWLEDGE.current().is_everybodys(connection)


def keep(connection: AnyConnection, bodies: Iterable[Body]) -> Mapping[str, bytes]:
    """Write bodies, before their runs, whose commit comes later and so covers them. Returns, by run id, what stands for
    the payload in the run's row.
    """
    references: dict[str, bytes] = {}
    durability = "off" if _commits_alone(connection) else None
    for some in _portions(bodies):
        ids = [uuid4() for _ in some]
        values = {
            "run_id": uuid_array(body.run_id for body in some), "id": uuid_array(map(str, ids)),
            "tenant_id": [body.tenant_id for body in some], "sealed_payload": [body.sealed for body in some],
            "durability": durability,
        }  # fmt: skip
        execute(connection, SQL["keep"], values)
        references |= {
            body.run_id: _MARK + UUID(body.run_id).bytes + body_id.bytes
            for body, body_id in zip(some, ids, strict=True)
        }
    return references


def _commits_alone(connection: AnyConnection) -> bool:
    """Whether a statement is a transaction of its own: only then may it not wait for the disk."""
    return isinstance(connection, psycopg.Connection) and (
        connection.info.transaction_status == TransactionStatus.IDLE and connection.autocommit
    )


def _portions(bodies: Iterable[Body]) -> Iterator[list[Body]]:
    """So many at once that they need not all be in memory twice."""
    some: list[Body] = []
    size = 0
    for body in bodies:
        some.append(body)
        size += len(body.sealed)
        if size >= _BYTES_AT_ONCE:
            yield some
            some, size = [], 0
    if some:
        yield some


def is_reference(sealed: bytes) -> bool:
    """Whether what is in a run's row stands for a payload that is kept here."""
    return sealed[:1] == _MARK and len(sealed) == _LENGTH


def find(tenant_id: str, reference: bytes) -> bytes | None:
    """The body; None if it is not there, or another tenant's. Raises psycopg.Error."""
    with autocommit() as connection:
        return find_all(connection, [(tenant_id, reference)]).get(reference)


def find_all(connection: AnyConnection, references: Sequence[tuple[str, bytes]]) -> Mapping[bytes, bytes]:
    """Those of these bodies that are there, by reference. Each is looked for with the tenant whose row refers to it."""
    rows = fetch_as(connection, SQL["find"], _keys_of([reference for _, reference in references]), _plain)
    found = {(tenant_id, body_id.bytes): sealed for body_id, tenant_id, sealed in rows}
    return {one[1]: found[key] for one in references if (key := (one[0], one[1][17:])) in found}


def forget(connection: AnyConnection, stored: Sequence[bytes]) -> None:
    """Delete the bodies of runs that are on record no longer. stored: what was in their rows."""
    references = [one for one in stored if is_reference(one)]
    if references:
        execute(connection, SQL["forget"], _keys_of(references))


def brought(connection: AnyConnection, rows: Sequence[Row]) -> Sequence[Row]:
    """Rows of runs with their large payloads in the place of what stands for them: all in one look, and such as the
    connection's own transaction has just written.
    """
    large = [row for row in rows if row["sealed_payload"] is not None and is_reference(row["sealed_payload"])]
    if not large:
        return rows
    found = find_all(connection, [(row["tenant_id"], row["sealed_payload"]) for row in large])
    for row in large:
        row["sealed_payload"] = found.get(row["sealed_payload"], row["sealed_payload"])
    return rows


def _keys_of(references: Sequence[bytes]) -> dict[str, str]:
    return {
        "run_ids": uuid_array(str(UUID(bytes=reference[1:17])) for reference in references),
        "ids": uuid_array(str(UUID(bytes=reference[17:])) for reference in references),
    }


def _plain(_columns: Sequence[str]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    return tuple
