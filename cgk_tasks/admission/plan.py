"""The plan of a pass: whose runs are admitted next, decided in memory on what the pass has read.

The share with the least virtual time comes first. Its first lane gets a packet, if all of the lane's gates have room,
and the share is charged what the packet is expected to take, divided by its weight; then it is the next one's turn. A
lane that a gate refuses is left where it waits. So it goes on until the window is full or nothing is left that may
start.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

from cgk_tasks.admission.buckets import Bucket

_PACKETS_AT_LEAST: Final = 16
"""A lane is cut into no fewer packets than this, or than it may have places, so that all processes that it may have,
have something to do.
"""

RUNS_A_PASS: Final = 2000
"""What there is room for beyond that is for the next pass: as long as this one is made, senders wait for its lanes."""


class Gate(NamedTuple):
    """at_once: how many slots; None for no such limit. opens_at: nobody passes before it (seconds since 1970)."""

    id: int
    at_once: int | None = None
    bucket: Bucket | None = None
    opens_at: float | None = None


class Lane(NamedTuple):
    """waiting: how many runs it holds, as far as is known. alone: its slots are of one run."""

    id: int
    event: str
    gates: Sequence[int]
    waiting: int
    alone: bool = False
    priority: int = 5


class Share(NamedTuple):
    """A tenant in a queue, with its open lanes in their order."""

    id: int
    vtime: float
    weight: float
    lanes: Sequence[Lane]


class Expected(NamedTuple):
    """Of a run of an event. seconds: how long it takes. room: what it takes of the window, in seconds of work. packet:
    how many go into one message.
    """

    seconds: float
    room: float
    packet: int


@dataclass(slots=True)
class Take:
    """So many runs are to be admitted of a lane, in so many slots, on account of a share."""

    lane: Lane
    share: Share
    runs: int = 0
    slots: int = 0


class Refusal(NamedTuple):
    """A lane stays where it is, because this gate has no place (`full`) or its time has not come (`closed`)."""

    share: Share
    status: Literal["full", "closed"]
    gate: int
    vtime: float


@dataclass(slots=True)
class Plan:
    """What a pass will do, by id. charges: seconds by weight. buckets: as they are afterwards. opens: when a gate that
    has refused opens again. clock: the virtual time of the share that was served last.
    """

    takes: dict[int, Take] = field(default_factory=dict)
    refusals: dict[int, Refusal] = field(default_factory=dict)
    charges: dict[int, float] = field(default_factory=dict)
    buckets: dict[int, Bucket] = field(default_factory=dict)
    opens: dict[int, float] = field(default_factory=dict)
    clock: float | None = None
    room: float = 0.0
    left: int = 0
    """How many runs more it might have admitted."""


def plan(
    shares: Sequence[Share],
    gates: Mapping[int, Gate],
    used: MutableMapping[int, int],
    expected: Callable[[str], Expected],
    *,
    room: float,
    now: float,
    most: int = RUNS_A_PASS,
) -> Plan:
    """Say what is to be admitted. used: how many slots each gate has given; those of the plan are added. A gate of a
    lane that is not among `gates` is no limit any more. room: of the window, in seconds of work; now: seconds since
    1970; most: so many runs, or a packet more.
    """
    made = Plan(room=room, left=most)
    lanes = {share.id: list(reversed(share.lanes)) for share in shares}
    turns = [(share.vtime, share.id, share) for share in shares]
    heapq.heapify(turns)
    while turns and made.room > 0 and made.left > 0:
        vtime, share_id, share = heapq.heappop(turns)
        if not (waiting := lanes[share_id]):
            continue
        lane, known = waiting[-1], [gates[one] for one in waiting[-1].gates if one in gates]
        refusal = _refusal(made, known, used, now)
        if refusal is not None:
            made.refusals[lane.id] = Refusal(share, *refusal, vtime)
            waiting.pop()
        else:
            of_run = expected(lane.event)
            runs = _packet(made, lane, known, of_run, now)
            _admit(made, share, lane, known, used, runs, now)
            made.clock = vtime
            made.room -= runs * of_run.room
            made.left -= runs
            charge = runs * of_run.seconds / share.weight
            made.charges[share_id] = made.charges.get(share_id, 0.0) + charge
            vtime += charge
            if made.takes[lane.id].runs >= lane.waiting:
                waiting.pop()
        heapq.heappush(turns, (vtime, share_id, share))
    return made


def _refusal(
    made: Plan, gates: Sequence[Gate], used: Mapping[int, int], now: float
) -> tuple[Literal["full", "closed"], int] | None:
    """The first gate that lets nobody through, and why."""
    for gate in gates:
        if gate.at_once is not None and used.get(gate.id, 0) >= gate.at_once:
            return "full", gate.id
        if gate.opens_at is not None and gate.opens_at > now:
            made.opens[gate.id] = gate.opens_at
            return "closed", gate.id
        bucket = made.buckets.get(gate.id, gate.bucket)
        if bucket is not None and bucket.free(now) <= 0:
            made.opens[gate.id] = bucket.opens_at(now)
            return "closed", gate.id
    return None


def _packet(made: Plan, lane: Lane, gates: Sequence[Gate], expected: Expected, now: float) -> int:
    """How many runs the lane's next packet has: no more than the window and the buckets have room for."""
    in_window = int(made.room / expected.room) if expected.room > 0 else lane.waiting
    free = [bucket.free(now) for gate in gates if (bucket := made.buckets.get(gate.id, gate.bucket)) is not None]
    taken = made.takes[lane.id].runs if lane.id in made.takes else 0
    packets = min([_PACKETS_AT_LEAST, *(gate.at_once for gate in gates if gate.at_once is not None)])
    packet = 1 if lane.alone else min(expected.packet, max(1, lane.waiting // packets))
    return min(packet, max(1, in_window), max(1, lane.waiting - taken), *free)


def _admit(
    made: Plan, share: Share, lane: Lane, gates: Sequence[Gate], used: MutableMapping[int, int], runs: int, now: float
) -> None:
    take = made.takes.setdefault(lane.id, Take(lane, share))
    take.runs += runs
    take.slots += 1
    for gate in gates:
        used[gate.id] = used.get(gate.id, 0) + 1
        bucket = made.buckets.get(gate.id, gate.bucket)
        if bucket is not None:
            made.buckets[gate.id] = bucket.after(runs, now)
