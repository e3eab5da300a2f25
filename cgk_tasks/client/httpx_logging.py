"""httpx logs the URL of every request, and some of ours hold a secret: those stay out of the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_unlogged: ContextVar[bool] = ContextVar("cgk_unlogged_requests", default=False)


class _NotOurs(logging.Filter):
    """The application's own requests stay in the log."""

    def filter(self, _record: logging.LogRecord) -> bool:
        return not _unlogged.get()


logging.getLogger("httpx").addFilter(_NotOurs())


@contextmanager
def unlogged_requests() -> Iterator[None]:
    """Requests that httpx makes inside the block, in this thread or task, are not logged."""
    token = _unlogged.set(True)
    try:
        yield
    finally:
        _unlogged.reset(token)
