"""Runs that a transaction wakes beside what it is made for: they are published when it has committed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

from cgk_tasks.runs.models import Dispatch

_gathered: ContextVar[list[Dispatch] | None] = ContextVar("cgk_woken", default=None)


@contextmanager
def gathering() -> Iterator[list[Dispatch]]:
    """Gathers what is woken inside of the block, for whoever publishes it after the commit."""
    gathered: list[Dispatch] = []
    token = _gathered.set(gathered)
    try:
        yield gathered
    finally:
        _gathered.reset(token)


def are_published() -> bool:
    """Whether somebody here publishes woken runs; else the dispatcher does."""
    return _gathered.get() is not None


def note(woken: Sequence[Dispatch]) -> None:
    gathered = _gathered.get()
    if gathered is not None:
        gathered += woken
