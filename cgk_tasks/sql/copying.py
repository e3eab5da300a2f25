"""Rows as COPY … FROM STDIN (FORMAT BINARY) reads them: the number of columns, and before each column its length.

psycopg makes such rows of Python's values, column by column. Of thousands of runs most columns are the same, so whoever
copies these joins columns that were made once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from struct import Struct
from typing import Final

NULL: Final = b"\xff\xff\xff\xff"

_BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END: Final = b"\xff\xff"
_BLOCK_BYTES: Final = 32_768
"""PostgreSQL works on a block while the next one is made."""

_SINCE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

row: Final = Struct("!h").pack
"""How a row begins: with the number of its columns."""
length: Final = Struct("!i").pack
"""How a column begins whose bytes follow: with their number."""
smallint: Final = Struct("!ih").pack
integer: Final = Struct("!ii").pack
bigint: Final = Struct("!iq").pack
"""These three are called with the number of bytes, 2, 4 or 8, and the value."""


def binary(value: bytes | None) -> bytes:
    """A column of bytes, or of text in the connection's encoding."""
    return NULL if value is None else length(len(value)) + value


def uuid(value: str) -> bytes:
    """A column of an id. Raises ValueError if it is none."""
    return b"\0\0\0\x10" + bytes.fromhex(value.replace("-", ""))


def timestamptz(value: datetime) -> bytes:
    """A column of an aware time."""
    return bigint(8, (value - _SINCE) // _MICROSECOND)


def blocks(rows: Iterable[bytes]) -> Iterator[bytes]:
    """All that is to be sent for these rows."""
    some, size = [_BEGIN], 0
    for one in rows:
        some.append(one)
        size += len(one)
        if size >= _BLOCK_BYTES:
            yield b"".join(some)
            some, size = [], 0
    some.append(_END)
    yield b"".join(some)
