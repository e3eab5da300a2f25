"""Warnings that would be logged several times a second for as long as something is away or wrong."""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from typing import Any, Final

REMIND_SECONDS: Final = 60.0


class RecurringWarning:
    """Said once, then once a minute with how often it would have been said, and once when it is over."""

    def __init__(
        self, log: Any, event: str, over: str, counted: str = "times", remind_seconds: float = REMIND_SECONDS
    ) -> None:
        """over: the event that says that it has ended. counted: the name of the number in the lines."""
        self._log, self._event, self._over, self._counted = log, event, over, counted
        self._remind_seconds = remind_seconds
        self._lock = threading.Lock()
        self._since: float | None = None
        self._remind_at = 0.0
        self._unsaid = self._all = 0

    def warn(self, count: int = 1, **fields: object) -> None:
        with self._lock:
            now = time.monotonic()
            self._unsaid, self._all = self._unsaid + count, self._all + count
            if self._since is None:
                self._since = now
            elif now < self._remind_at:
                return
            self._remind_at = now + self._remind_seconds
            unsaid, self._unsaid = self._unsaid, 0
        self._log.warning(self._event, **{self._counted: unsaid}, **fields)

    def is_over(self) -> None:
        """To be called whenever all is well; costs nothing then."""
        if self._since is None:
            return
        with self._lock:
            since, self._since = self._since, None
            total, self._all, self._unsaid = self._all, 0, 0
        if since is not None:
            seconds = round(time.monotonic() - since, 1)
            self._log.warning(self._over, **{self._counted: total}, seconds=seconds)


class Reminders:
    """Of each of several things, whether it is time to say it: once a minute. Safe in several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._say_at: dict[Hashable, float] = {}

    def is_time(self, about: Hashable) -> bool:
        with self._lock:
            now = time.monotonic()
            if now < self._say_at.get(about, 0.0):
                return False
            self._say_at[about] = now + REMIND_SECONDS
            return True
