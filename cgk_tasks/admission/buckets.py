"""Buckets: how many runs may start in a time, by GCRA (the generic cell rate algorithm).

A bucket needs one number: its theoretical arrival time, `tat`. Each start moves it on by one step, which is what a
start costs at the rate. It may lie ahead of now by as many steps as the burst allows.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

_ROUNDING: Final = 1e-6
"""Of a step. Times are stored in microseconds."""

_BETWEEN_PASSES_SECONDS: Final = 0.1
"""What becomes free between two passes must fit into the burst, or the rate is not reached."""


class Bucket(NamedTuple):
    """`rate` starts in `period` seconds, `burst` of them at once. Times are seconds since 1970."""

    rate: int
    period: float
    burst: int
    tat: float

    @property
    def step(self) -> float:
        return self.period / self.rate

    def free(self, now: float) -> int:
        """How many may start now; 0 or less for none."""
        ahead = max(self.tat, now) - now
        return math.floor((self.step * (self.burst - 1) - ahead) / self.step + _ROUNDING) + 1

    def opens_at(self, now: float) -> float:
        """When the next one may start."""
        return max(self.tat, now) - self.step * (self.burst - 1)

    def after(self, starts: int, now: float) -> Bucket:
        """The bucket once so many have started."""
        return self._replace(tat=max(self.tat, now) + starts * self.step)


def least_burst(rate: int, period: float) -> int:
    """The smallest burst with which passes reach the rate: what it gives between two of them, and one that was begun.
    A rate below one start a pass needs none.
    """
    between = _BETWEEN_PASSES_SECONDS * rate / period
    return math.ceil(between - _ROUNDING) + 1 if between >= 1 else 1
