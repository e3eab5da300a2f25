"""The day of benchmarks/soak.py: what is sent when, and for whom.

The night is at both ends of the day, and noon is in the middle, so that the first and the last quarter have the same
load.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from random import Random

SENT = "soak:sent"
"""The key in Redis with what was sent, once all is."""

TWICE = "soak:twice"
"""The key with how often something was done that had been done before."""

TICK_EVENT = "cron.soakTick"

_SWING = 0.6
"""By how much noon is above the mean, and the night below it."""

_EVERY_SECONDS = 0.25
_LOOK_SECONDS = 5.0
_FLOODS = 12
_OF_A_FLOOD = 0.01
"""So many times a day one tenant sends this part of the day's runs at once."""

OPEN_AT_MOST = 30_000
"""The day stands still while more runs are open than this: the machine cannot do more."""

KINDS = {"quick": 0.50, "row": 0.22, "flaky": 0.05, "later": 0.09, "sync": 0.11, "trip": 0.03}
"""Events, and which part of what is sent each of them is."""

_DELAYS = (5.0, 45.0)
"""Seconds: a run that is sent for later is due between these."""

_SHOPS = 3


@dataclass(frozen=True)
class Day:
    """`runs`: those of schedules and children of workflows count, too."""

    runs: int
    tenants: int
    minutes: float
    seed: int = 1

    @property
    def seconds(self) -> float:
        return 60 * self.minutes

    @property
    def sends(self) -> int:
        """How many are sent, which is what schedules and workflows leave."""
        ticks = int(self.minutes) * self.tenants
        floods = _FLOODS * _OF_A_FLOOD
        return max(self.tenants, int((self.runs - ticks) / (1 + KINDS["trip"] * (1 - floods))))

    def due_by(self, seconds: float) -> int:
        """How many are sent until then, without the floods."""
        part = min(1.0, max(0.0, seconds / self.seconds))
        steady = self.sends - _FLOODS * self.of_a_flood
        return round(steady * (part - _SWING / math.tau * math.sin(math.tau * part)))

    @property
    def of_a_flood(self) -> int:
        return int(_OF_A_FLOOD * self.sends)

    @property
    def floods(self) -> list[float]:
        """When they come, in seconds since the begin of the day: in the middle of each twelfth."""
        return [self.seconds * (nth + 0.5) / _FLOODS for nth in range(_FLOODS)]


@dataclass(frozen=True)
class Wanted:
    """A run to be sent. `number`: one of those of its kind, from 0 without a gap."""

    kind: str
    number: int
    tenant: str
    delay: float | None = None
    shop: str | None = None


class Wishes:
    """What is sent next: of which kind, and for whom. A few tenants send much, most of them little."""

    def __init__(self, day: Day) -> None:
        self._random = Random(day.seed)
        self._tenants = [tenant_id(number) for number in range(day.tenants)]
        self._weights = list(accumulate(1 / (rank + 10) for rank in range(day.tenants)))
        self.counts: Counter[str] = Counter()

    def some(self, count: int) -> Iterator[Wanted]:
        kinds = self._random.choices(list(KINDS), list(KINDS.values()), k=count)
        tenants = self._random.choices(self._tenants, cum_weights=self._weights, k=count)
        return (self._wanted(kind, tenant) for kind, tenant in zip(kinds, tenants, strict=True))

    def flood(self, count: int) -> Iterator[Wanted]:
        """Of one tenant of the larger half."""
        tenant = self._random.choice(self._tenants[: max(1, len(self._tenants) // 2)])
        return (self._wanted("quick", tenant) for _ in range(count))

    def _wanted(self, kind: str, tenant: str) -> Wanted:
        number = self.counts[kind]
        self.counts[kind] += 1
        delay = self._random.uniform(*_DELAYS) if kind == "later" else None
        shop = f"shop-{self._random.randrange(_SHOPS)}" if kind == "sync" else None
        return Wanted(kind, number, tenant, delay, shop)


def bits_of(kind: str) -> str:
    """The key in Redis with a bit for each number of this kind that was done."""
    return f"soak:done:{kind}"


def tenant_id(number: int) -> str:
    return f"t{number}"


def plan_of(number: int, tenants: int) -> str | None:
    """A tenth of the tenants pay for more, and a fifth of the smaller half for nothing."""
    if number % 10 == 9:
        return "pro"
    return "free" if number % 10 in (7, 8) and number >= tenants // 2 else None


@dataclass(frozen=True)
class Sent:
    """`counts`: of each kind. `waited`: the seconds for which the day stood still."""

    counts: dict[str, int]
    waited: float


def send_a_day(day: Day, send: Callable[[Sequence[Wanted]], None], open_runs: Callable[[], int]) -> Sent:
    wishes, floods = Wishes(day), day.floods
    sent, waited, begun, look_at = 0, 0.0, time.monotonic(), 0.0
    while True:
        now = time.monotonic() - begun - waited
        if now >= look_at:
            if open_runs() > OPEN_AT_MOST:
                time.sleep(_EVERY_SECONDS)
                waited += time.monotonic() - begun - waited - now
                continue
            look_at = now + _LOOK_SECONDS
        due = day.due_by(now)
        send(list(wishes.some(due - sent)))
        sent = due
        while floods and floods[0] <= now:
            floods.pop(0)
            send(list(wishes.flood(day.of_a_flood)))
        if now >= day.seconds:
            return Sent(dict(wishes.counts), waited)
        time.sleep(max(0.0, now + _EVERY_SECONDS - (time.monotonic() - begun - waited)))
