"""The window: how much work the broker may hold for a queue, ahead of its workers. The rest waits in lanes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cgk_tasks.admission.plan import Expected
from cgk_tasks.config import get_settings
from cgk_tasks.sql.postgres import Connection, fetch, statements

SQL = statements("admission")

UNCLAIMED_LOOKED_AT: Final = 2000
"""The window holds no more runs than this, however short they are."""

ALWAYS: Final = "-infinity"
UNKNOWN_SECONDS: Final = 0.01
"""Of a run of an event that no worker has met yet."""
_FREE_PART: Final = 0.5
"""Of the window, when it is filled up. Little by little each run would be a packet of its own. Who waits meanwhile
comes no later: what has left the window by then need not be waited for.
"""

_LEAST_SECONDS: Final = 1e-4
_LONGEST_PACKET: Final = 100

MeanSeconds = Callable[[str], float | None]
"""How long a run of an event takes; None if nobody has measured one yet."""


def expected_of(mean_seconds: float | None) -> Expected:
    """What a run takes whose event has this mean run time."""
    settings = get_settings()
    seconds = max(_LEAST_SECONDS, mean_seconds or UNKNOWN_SECONDS)
    packet = int(settings.packet_budget_seconds / 2 / seconds)
    return Expected(seconds, min(seconds, settings.window_seconds), max(1, min(_LONGEST_PACKET, packet)))


def room_in(processes: int, unclaimed: Sequence[str], expected: Callable[[str], Expected]) -> float:
    """The seconds of work that the window of a queue has room for. processes: how many runs its workers execute at
    once. unclaimed: the events of what is dispatched there and not claimed.
    """
    if len(unclaimed) >= UNCLAIMED_LOOKED_AT:
        return 0.0
    return _seconds(processes) - sum(runs * expected(event).room for event, runs in Counter(unclaimed).items())


def is_filled_up(room: float, processes: int) -> bool:
    """Whether a pass fills the window up, of which so much is free."""
    return room > 0 and room >= _FREE_PART * _seconds(processes)


def _seconds(processes: int) -> float:
    return get_settings().window_seconds * max(1, processes)


class Crowd(NamedTuple):
    """A queue, as PostgreSQL knows it. since: where the next look may begin."""

    processes: int
    unclaimed: list[str]
    since: str
    lanes_wait: bool

    def room(self, expected: Callable[[str], Expected]) -> float:
        """The seconds of work for which there is room. None is left while lanes wait there."""
        return 0.0 if self.lanes_wait else room_in(self.processes, self.unclaimed, expected)


def crowd(connection: Connection, queue: str, since: str = ALWAYS) -> Crowd:
    """Look at a queue. since: of the last look, if there was one. Raises psycopg.Error."""
    timeout = get_settings().worker_timeout_seconds
    values = {"queue": queue, "most": UNCLAIMED_LOOKED_AT, "timeout": timeout, "since": since}
    return Crowd(**fetch(connection, SQL["crowd"], values)[0])
