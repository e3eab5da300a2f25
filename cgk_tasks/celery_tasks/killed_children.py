"""The children that a worker has killed itself, for reasons that are not their runs'.

A child is remembered until its runs have been looked for: a pid is given to another process one day, whose death is its
own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_LAST_CLAIM_SECONDS: Final = 60.0
"""PostgreSQL may still be busy with a claim of a child that is dead."""


class KilledChildren:
    """Their pids. clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._killed: dict[int, float] = {}

    def add(self, pid: int) -> None:
        self._killed[pid] = self._clock()

    def __contains__(self, pid: int) -> bool:
        return pid in self._killed

    def looked_after(self) -> None:
        """All runs of dead children, as they are on record, have been taken care of."""
        known_since = self._clock() - _LAST_CLAIM_SECONDS
        for pid in [pid for pid, killed_at in list(self._killed.items()) if killed_at < known_since]:
            self._killed.pop(pid, None)
