"""Whether queues are crowded: more waits there than the window holds, or lanes wait.

What a sender sees anyway tells it when to ask: Redis answers a push with the length of the list. As long as nothing
else waits there, nothing is asked. Else PostgreSQL is, once a second at most, how much room there is, and what this
process dispatches is taken off until it asks again. RabbitMQ answers no length, so there each second with a send asks.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import psycopg

from cgk_tasks.admission.plan import Expected
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.admission.window import ALWAYS, crowd, expected_of
from cgk_tasks.broker.packets import run_times
from cgk_tasks.broker.publisher import Lengths
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.runs.models import Dispatch, NewRun
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit

_TRUST_SECONDS: Final = 1.0
MANY: Final = 32
"""So many at once may be more than the window holds, whatever is known of the queue."""

_MESSAGE_SECONDS: Final = 0.002
"""A message costs a process about this, however short its run is."""

NO_QUEUES: Final[Collection[str]] = frozenset()


@dataclass
class _Queue:
    """room: seconds of work, as of the last look. others_wait: whether a list was seen since then that had more. costs:
    what a run of an event takes of the room, if it travels alone.
    """

    others_wait: bool = True
    room: float = math.inf
    trusted_until: float = 0.0
    since: str = ALWAYS
    costs: dict[str, float] = field(default_factory=dict)

    def cost(self, event: str) -> float:
        """As of the last look: it takes longer to find out than all else that is asked here."""
        found = self.costs.get(event)
        if found is None:
            found = self.costs[event] = _expected_alone(event).room
        return found


class CrowdedQueues:
    """What this process knows of the queues to which it dispatches."""

    def __init__(self) -> None:
        self._queues: dict[str, _Queue] = {}

    def note(self, lengths: Lengths) -> None:
        """The broker's answer to a publish."""
        for queue, length in lengths.items():
            if length is None or length > 1:
                if known := self._queues.get(queue):
                    known.others_wait = True
                elif is_fair(queue):
                    self._queues[queue] = _Queue()

    def among(self, runs: Sequence[NewRun | Dispatch]) -> Collection[str]:
        """The queues that have no room for these runs. Those for which there is room take it."""
        if not self._queues and len(runs) < MANY:
            return NO_QUEUES
        if len(runs) == 1:
            run = runs[0]
            if run.queue not in self._queues:
                return NO_QUEUES
            return NO_QUEUES if self._has_room(run.queue, {run.event: 1}) else {run.queue}
        return self.without_room(Counter((run.queue, run.event) for run in runs))

    def without_room(self, counts: Mapping[tuple[str, str], int]) -> Collection[str]:
        """The same for so many runs of each queue and event."""
        events: dict[str, dict[str, int]] = {}
        for (queue, event), count in counts.items():
            events.setdefault(queue, {})[event] = count
        return {queue for queue, its in events.items() if not self._has_room(queue, its)}

    def _has_room(self, queue: str, events: Mapping[str, int]) -> bool:
        is_bulk = sum(events.values()) >= MANY
        known = self._queues.get(queue)
        if known is None:
            if not is_bulk or not is_fair(queue):
                return True
            known = self._queues[queue] = _Queue()
        if time.monotonic() >= known.trusted_until:
            if known.room > 0 and not known.others_wait and not is_bulk:
                return True
            _look(queue, known)
        cost = (lambda event: _expected(event).room) if is_bulk else known.cost
        work = sum(runs * cost(event) for event, runs in events.items())
        if known.room <= 0 or (is_bulk and work > known.room):
            return False
        known.room -= work
        return True


def is_fair(queue: str) -> bool:
    """Whether the settings say that tenants share the queue."""
    fair = get_settings().fair_queues
    return "*" in fair or queue in fair


def _expected(event: str) -> Expected:
    return expected_of(run_times().mean_seconds(event))


def _expected_alone(event: str) -> Expected:
    """Of a run that travels alone."""
    expected = _expected(event)
    return expected._replace(room=max(expected.room, _MESSAGE_SECONDS))


def _look(queue: str, known: _Queue) -> None:
    """Ask PostgreSQL. If it does not answer, nothing is held back: the send itself tells what is wrong."""
    known.others_wait, known.trusted_until = False, time.monotonic() + _TRUST_SECONDS
    known.costs.clear()
    try:
        known.room = math.inf
        if SWITCH.current().is_fair:
            with autocommit() as connection:
                found = crowd(connection, queue, known.since)
            known.since, known.room = found.since, found.room(_expected_alone)
    except (psycopg.Error, ConfigurationError):
        return


CROWDED = Part(CrowdedQueues)
