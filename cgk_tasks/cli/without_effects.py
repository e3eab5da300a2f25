"""A runtime without a way out of the process, for code that is only tried."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from cgk_tasks.broker.publisher import PATIENT_PUBLISHER, PUBLISHER
from cgk_tasks.client.client import CLIENT
from cgk_tasks.client.own_runtime import runtime_with
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.jobs.event_loop import LOOP
from cgk_tasks.sql.postgres import POOL
from cgk_tasks.tenancy import cache


class _Refused:
    """In place of a connection, whatever is asked of it."""

    def __getattr__(self, name: str) -> NoReturn:
        raise ConfigurationError(
            "Code outside of a step asks for a database, a broker or a cache: a replay that only reads has none.",
            hint="Ask in a step: outside of steps each leg does it again.",
        )


@contextmanager
def without_effects() -> Iterator[None]:
    """While the block runs, cgk-tasks has no database, no broker, no cache and no provider in this thread."""
    runtime, refused = runtime_with(get_settings()), _Refused()
    parts: list[Any] = [POOL, PUBLISHER, PATIENT_PUBLISHER, CLIENT, cache.CLIENT]
    try:
        from cgk_tasks.sql.sqlalchemy_engine import ENGINE
    except ImportError:
        pass  # then nobody has a session
    else:
        parts.append(ENGINE)
    for part in parts:
        runtime.put(part, refused)
    try:
        with runtime.active():
            yield
    finally:
        runtime.drop(LOOP)
