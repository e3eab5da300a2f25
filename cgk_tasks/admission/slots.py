"""Which slots the runs of a plan get, and so which of them travel in one message.

A slot is a place at the gates of its lane, so lanes with gates have slots of their own. Of the others, lanes with few
runs share them: where many tenants wait with a run or two each, a message for each run would cost more than the runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cgk_tasks.admission.plan import Expected, Lane, Take

_PACKETS_A_PROCESS: Final = 2
"""What is admitted at once is cut into no fewer packets than this for each process: all have something to do."""


class Slots(NamedTuple):
    """Of a take: the first, counted from 0, and how many they are."""

    first: int
    size: int


def slots_of(takes: Sequence[Take], expected: Callable[[str], Expected], processes: int) -> tuple[list[Slots], int]:
    """The slots of each of these takes of a queue, and how many there are of all. Packets of lanes without gates have
    runs of one event and priority. processes: how many runs the queue's workers execute at once.
    """
    sharing = sum(take.runs for take in takes if _may_share(take.lane))
    most = sharing // (_PACKETS_A_PROCESS * max(1, processes))
    shared: dict[tuple[str, int], tuple[int, int]] = {}
    found: list[Slots] = []
    following = 0
    for take in takes:
        length = min(expected(take.lane.event).packet, most) if _may_share(take.lane) else 0
        if take.runs >= length:
            count = min(take.slots, math.ceil(take.runs / length)) if length else take.slots
            found.append(Slots(following, count))
            following += count
            continue
        kind = take.lane.event, take.lane.priority
        slot, room = shared.get(kind, (0, 0))
        if room < take.runs:
            slot, room, following = following, length, following + 1
        shared[kind] = slot, room - take.runs
        found.append(Slots(slot, 1))
    return found, following


def _may_share(lane: Lane) -> bool:
    return not lane.gates and not lane.alone
