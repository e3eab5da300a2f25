"""Limits failed logins: after some of them a name, or an address, has to wait."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_FAILURES = 5
_SECONDS = 60.0
_MOST_KEYS = 10_000


class LoginLimiter:
    """Counts failed logins of the last minute, in the memory of this process."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._failures: dict[str, deque[float]] = {}

    def wait_seconds(self, *keys: str) -> float:
        """How long these must wait before they may try again; 0 if they may now."""
        now = self._clock()
        waits = [
            times[0] + _SECONDS - now
            for key in keys
            if (times := self._failures.get(key)) is not None and len(times) == _FAILURES
        ]
        return max(0.0, *waits) if waits else 0.0

    def failed(self, *keys: str) -> None:
        """Note a failure of each of these."""
        if len(self._failures) > _MOST_KEYS:
            self._failures.clear()
        for key in keys:
            self._failures.setdefault(key, deque(maxlen=_FAILURES)).append(self._clock())

    def succeeded(self, *keys: str) -> None:
        for key in keys:
            self._failures.pop(key, None)
