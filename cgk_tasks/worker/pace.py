"""How long a supervisor sleeps between its turns, and a leader between its looks for due runs."""

from __future__ import annotations

from typing import Final

LEAST_PAUSE: Final = 0.02
"""Seconds between two looks, however close together runs are due and hints come."""
_RESTLESS_SECONDS: Final = 5.0
"""So long after something has happened turns stay as close together as if it went on: a retry may come of it."""


def pause(to_turn: float, to_due: float | None) -> float:
    """Seconds until the next turn, or until a run is due that this worker is to dispatch: None where there is none."""
    return to_turn if to_due is None else min(to_turn, max(to_due, LEAST_PAUSE))


class Pace:
    """interval, idle_interval: seconds between two turns while something happens, and while nothing does."""

    def __init__(self, interval: float, idle_interval: float) -> None:
        self._interval, self._idle_interval = interval, idle_interval
        self._restless_until = float("-inf")

    def seconds_to_turn(self, now: float, *, is_idle: bool) -> float:
        """is_idle: whether nothing happens now, and what comes would wake the sleeper or can wait."""
        if not is_idle:
            self._restless_until = now + _RESTLESS_SECONDS
        return self._interval if now < self._restless_until else self._idle_interval
