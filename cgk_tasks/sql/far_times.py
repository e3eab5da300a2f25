"""Times that Python's datetime cannot hold, and PostgreSQL can: `infinity`, and years before 1 or after 9999.

One such time in one run must not keep everybody from reading a list that the run is in. psycopg refuses the whole
answer; then it is read again here, with the nearest time that can be shown in any time zone. An answer without such a
time costs nothing.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from psycopg import Connection, DataError
from psycopg.adapt import AdaptersMap, Buffer, Transformer
from psycopg.pq.abc import PGresult
from psycopg.types.datetime import TimestamptzBinaryLoader, TimestamptzLoader

EARLIEST: Final = datetime(1, 1, 2, tzinfo=UTC)
LATEST: Final = datetime(9999, 12, 30, tzinfo=UTC)
"""A day within what datetime holds, so that no local time is outside."""

_BEFORE: Final = re.compile(rb"-infinity|.* BC")
_AFTER: Final = re.compile(rb"infinity|\d{5,}-.*")


class _NearestTime(TimestamptzLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            text = bytes(data)
            if _BEFORE.fullmatch(text):
                return EARLIEST
            if _AFTER.fullmatch(text):
                return LATEST
            raise


class _NearestBinaryTime(TimestamptzBinaryLoader):
    def load(self, data: Buffer) -> datetime:
        try:
            return super().load(data)
        except DataError:
            return EARLIEST if bytes(data)[0] & 0x80 else LATEST  # the sign of the microseconds since 2000


class _Context:
    """Where psycopg looks for loaders: ours before the usual ones."""

    def __init__(self, connection: Connection[Any]) -> None:
        self.connection = connection
        self.adapters = AdaptersMap(connection.adapters)
        self.adapters.register_loader("timestamptz", _NearestTime)
        self.adapters.register_loader("timestamptz", _NearestBinaryTime)


def rows(result: PGresult, connection: Connection[Any]) -> list[tuple[Any, ...]]:
    """The rows of an answer that psycopg has refused to read. Raises psycopg.DataError for any other reason."""
    transformer = Transformer(_Context(connection))
    transformer.set_pgresult(result)
    return transformer.load_rows(0, result.ntuples, tuple)
