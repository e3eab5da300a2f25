"""PostgreSQL's clock, the one by which times on record are compared.

Machines' clocks differ, and are set while programs run. So a process takes from PostgreSQL what time it is, and from
its own machine only how long ago that was.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Final

import psycopg

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, fetch, statements

SQL = statements("doctor")

_ASK_AGAIN_SECONDS: Final = 60.0
_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def steady() -> float:
    """Seconds that all processes of the machine count alike, and that pass also while it sleeps."""
    return time.clock_gettime(_STEADY)


class DatabaseClock:
    """What a runtime has heard last."""

    __slots__ = ("_heard", "ahead")

    def __init__(self) -> None:
        self._heard: tuple[datetime, float] | None = None
        self.ahead = timedelta()
        """How much time a test has let pass at once."""

    def heard(self, moment: datetime, at: float) -> None:
        self._heard = moment, at

    @property
    def is_recent(self) -> bool:
        return self._heard is not None and steady() - self._heard[1] < _ASK_AGAIN_SECONDS

    def now(self) -> datetime:
        if self._heard is None:
            return datetime.now(UTC) + self.ahead
        moment, at = self._heard
        return moment + timedelta(seconds=steady() - at) + self.ahead


CLOCK = Part(DatabaseClock)


def heard(moment: datetime) -> None:
    """PostgreSQL has just said what time it is."""
    CLOCK.current().heard(moment, steady())


def known_now() -> datetime:
    """The time as PostgreSQL has it, as far as this process has heard; else by its own clock. Asks nobody."""
    return CLOCK.current().now()


def database_now() -> datetime:
    """The time as PostgreSQL has it, which is asked once a minute. By what was heard before while it is away."""
    clock = CLOCK.current()
    if not clock.is_recent:
        try:
            with autocommit() as connection:
                asked = steady()
                moment = fetch(connection, SQL["now"])[0]["now"]
        except (psycopg.Error, ConfigurationError):
            return clock.now()
        clock.heard(moment, (asked + steady()) / 2)
    return clock.now()
