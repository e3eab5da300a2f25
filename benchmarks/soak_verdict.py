"""Whether what benchmarks/soak.py has seen stays flat: figures of the end of the day beside those of before."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

Points = Sequence[tuple[float, float]]
"""Figures by their time, in parts of the day: 0 is its begin, 1 its end."""

MORNING: Final = (0.05, 0.25)
MIDDLE: Final = (0.25, 0.75)
EVENING: Final = (0.75, 1.01)
"""The evening has the load of the morning; the middle has more. At the begin there are caches to fill."""


@dataclass(frozen=True)
class Verdict:
    """A figure before and at the end, and the most that it may be then. None: too little was seen to say it."""

    what: str
    unit: str
    before: float | None
    after: float | None
    most: float | None

    @property
    def is_flat(self) -> bool | None:
        return None if self.after is None or self.most is None else self.after <= self.most


def compared(
    what: str,
    unit: str,
    points: Points,
    *,
    part: float,
    slack: float,
    before: tuple[float, float] = MIDDLE,
    of: Callable[[Sequence[float]], float] = statistics.median,
) -> Verdict:
    """Whether a figure has not grown in the evening: by more than this part of what it was, and this much.

    What is looked at is the median of a time, or what `of` says.
    """
    early, late = _within(points, before), _within(points, EVENING)
    if not early or not late:
        return Verdict(what, unit, of(early) if early else None, of(late) if late else None, None)
    was = of(early)
    return Verdict(what, unit, was, of(late), was * (1 + part) + slack)


def _within(points: Points, times: tuple[float, float]) -> list[float]:
    return [value for at, value in points if times[0] <= at < times[1]]
