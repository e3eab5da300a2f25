"""Loggers that import structlog when they first log something.

It brings Rich with it, where that is installed: as much as the rest of a send. A process that only sends seldom logs.
So what senders import takes its logger from here. Modules that workers alone import ask structlog.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final


class _Logger:
    def __init__(self, name: str) -> None:
        self._name: Final = name

    @cached_property
    def _made(self) -> Any:
        import structlog

        return structlog.get_logger(self._name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._made, name)


def get_logger(name: str) -> Any:
    """The logger of this name, as `structlog.get_logger` gives it."""
    return _Logger(name)
