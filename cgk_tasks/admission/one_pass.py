"""One pass, on its connection and under the lock: usage, reopened lanes, plan, take and settling."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from cgk_tasks.admission.gates import gate_of, room_at
from cgk_tasks.admission.memory import Memory
from cgk_tasks.admission.plan import RUNS_A_PASS, Expected, Gate, Plan, Take, plan
from cgk_tasks.admission.rows import SETTLED, packets, settled, shares
from cgk_tasks.admission.slots import Slots, slots_of
from cgk_tasks.admission.window import UNCLAIMED_LOOKED_AT, is_filled_up, room_in
from cgk_tasks.config import get_settings
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.sql.postgres import Connection, Row, execute, fetch, statements

SQL, TRANSITIONS = statements("admission"), statements("transitions")

_GATES_A_PASS: Final = 500
_NEW_LANES_A_PASS: Final = 1000
_SHARES_A_PASS: Final = 256
_LANES_A_PASS: Final = 1024
_MOMENT_SECONDS: Final = 0.001


@dataclass
class Admitted:
    """What a pass has done. packets: to be published once this is returned, one message each. is_limited: something was
    left that may start at once, for which another pass is needed.
    """

    packets: list[list[Dispatch]] = field(default_factory=list)
    is_limited: bool = False

    @property
    def runs(self) -> int:
        return sum(map(len, self.packets))


@dataclass
class _Queue:
    """The part of a pass that is about one queue. room: of its window, in seconds of work, before the pass."""

    name: str
    processes: int
    room: float
    rows: list[Row] = field(default_factory=list)
    paused: list[Row] = field(default_factory=list)
    """Lanes that are paused, or whose tenants are suspended: they are open no longer."""
    plan: Plan = field(default_factory=Plan)

    @property
    def is_filled_up(self) -> bool:
        """Whether the pass fills its window up."""
        return is_filled_up(self.room, self.processes)

    @property
    def is_limited(self) -> bool:
        """Whether it may have open lanes that were not looked at."""
        rows = [*self.rows, *self.paused]
        return len(rows) >= _LANES_A_PASS or len({row["share"] for row in rows}) >= _SHARES_A_PASS


class Pass:
    """One of them, on its connection, under the lock."""

    def __init__(
        self,
        connection: Connection,
        memory: Memory,
        expected: Callable[[str], Expected],
        most: int = RUNS_A_PASS,
        *,
        skips_locked: bool = False,
    ) -> None:
        self._connection = connection
        self._memory = memory
        self._expected = expected
        self._most = most
        self._admit = TRANSITIONS["admit_free" if skips_locked else "admit"]
        self._gates: dict[int, Gate] = {}
        self._used: Counter[int] = Counter()
        self._now = 0.0

    def run(self) -> Admitted:
        are_only_open = self._begin()
        waiting = self._open_queues() if are_only_open else []
        if are_only_open and not any(queue.is_filled_up for queue in waiting):
            self._memory.lending = not waiting
            return Admitted()  # as most passes beside a backlog: nothing can start, and nobody waits at a gate
        self._count_usage()
        is_limited = not are_only_open and self._reopen()
        queues = waiting if are_only_open else self._open_queues()
        self._plan(queues)
        rows = self._take(queues)
        self._settle(queues, rows)
        is_limited |= any(queue.plan.room > 0 and (queue.is_limited or queue.plan.left <= 0) for queue in queues)
        self._memory.lending = all(queue.plan.room > 0 for queue in queues) and not is_limited
        return Admitted(packets(rows), is_limited)

    def _fetch(self, name: str, **values: Any) -> list[Row]:
        return fetch(self._connection, SQL[name], values)

    def _begin(self) -> bool:
        """Returns whether all lanes that wait are open, so that none can be opened again."""
        memory = self._memory
        begun = self._fetch("begin")[0]
        self._now = begun["now"]
        if memory.number is None or begun["number"] != memory.number + 1:
            noted = self._fetch("noted")[0]
            memory.frontier, memory.known = noted["frontier"], noted["known"]
            for queue, clock in noted["clocks"].items():
                memory.clocks[queue] = max(clock, memory.clocks.get(queue, 0.0))
            memory.floors, memory.lending = {}, False
        memory.number = begun["number"]
        return bool(begun["are_only_open"])

    def _count_usage(self) -> None:
        memory = self._memory
        held = self._fetch("usage", frontier=memory.frontier, known=memory.known)
        memory.known = sorted({row["slot"] for row in held})
        memory.frontier = max([memory.frontier, *(slot + 1 for slot in memory.known)])
        for row in held:
            self._used.update(row["gates"])

    def _opens_at(self, gate: Gate) -> float:
        """When a gate is to be looked at again whose time has come."""
        if gate.bucket is not None and gate.bucket.free(self._now) <= 0:
            return gate.bucket.opens_at(self._now)
        return self._now - _MOMENT_SECONDS

    def _reopen(self) -> bool:
        """Have lanes looked at again whose gate has room now, and those that are new. Returns whether more are new."""
        memory = self._memory
        full = self._fetch("full_gates", after=memory.after, limit=_GATES_A_PASS)
        memory.after = full[-1]["waits_at"] if len(full) == _GATES_A_PASS else 0
        due = self._fetch("due_gates", limit=_GATES_A_PASS)
        rooms = {row["waits_at"]: _LANES_A_PASS for row in full if row["id"] is None}
        gates = [gate_of(row, lending=memory.lending) for row in (*full, *due) if row["id"] is not None]
        rooms |= {gate.id: room_at(gate, self._used[gate.id], self._now, most=_LANES_A_PASS) for gate in gates}
        # Twice as many as there is room for: not each of them has a run for it.
        wanted = {gate: 2 * room for gate, room in rooms.items() if room > 0}
        opened = self._fetch(
            "reopen",
            gate=list(wanted),
            room=list(wanted.values()),
            due=[row["id"] for row in due],
            new=_NEW_LANES_A_PASS,
            clocks=json.dumps(memory.clocks),
        )
        counts = {row["gate"]: row["lanes"] for row in opened}
        # Its time has come, and more lanes may wait for it than were let go: the next pass looks at it too.
        left = {row["id"] for row in due if counts.get(row["id"], 0) >= wanted.get(row["id"], 0)}
        self._settle_gates({}, {gate.id: self._opens_at(gate) for gate in gates if gate.id in left})
        return bool(counts.get(None, 0) == _NEW_LANES_A_PASS)

    def _open_queues(self) -> list[_Queue]:
        """The queues in which lanes are open, each with the room in its window."""
        memory, timeout = self._memory, get_settings().worker_timeout_seconds
        since = json.dumps(memory.unclaimed_since)
        rows = self._fetch("open_queues", most=UNCLAIMED_LOOKED_AT, timeout=timeout, since=since)
        memory.unclaimed_since |= {row["queue"]: row["since"] for row in rows}
        return [
            _Queue(row["queue"], row["processes"], room_in(row["processes"], row["unclaimed"], self._expected))
            for row in rows
        ]

    def _plan(self, queues: Sequence[_Queue]) -> None:
        for queue in queues:
            if not queue.is_filled_up:
                continue
            found = self._fetch(
                "candidates",
                queue=queue.name,
                floor=self._memory.floors.get(queue.name, 0.0),
                shares=_SHARES_A_PASS,
                lanes=_LANES_A_PASS,
            )
            queue.rows = [row for row in found if not row["is_paused"]]
            queue.paused = [row for row in found if row["is_paused"]]
            self._read_gates(queue.rows)
            queue.plan = plan(
                shares(queue.rows), self._gates, self._used, self._expected,
                room=queue.room, now=self._now, most=self._most,
            )  # fmt: skip
            for gate, bucket in queue.plan.buckets.items():
                self._gates[gate] = self._gates[gate]._replace(bucket=bucket)
            self._move_clock(queue, found[0]["vtime"] if found else 0.0)

    def _move_clock(self, queue: _Queue, floor: float) -> None:
        """Newcomers begin where the share served last began, and never before the share that is first now."""
        memory = self._memory
        memory.floors[queue.name] = floor
        first = queue.rows[0]["vtime"] if queue.rows else 0.0
        memory.clocks[queue.name] = max(first, queue.plan.clock or 0.0, memory.clocks.get(queue.name, 0.0))

    def _read_gates(self, rows: Sequence[Row]) -> None:
        ids = {gate for row in rows for gate in row["gates"]} - self._gates.keys()
        if ids:
            for row in self._fetch("gates", ids=sorted(ids)):
                self._gates[row["id"]] = gate_of(row, lending=self._memory.lending)

    def _take(self, queues: Sequence[_Queue]) -> list[Row]:
        takes: list[Take] = []
        slots: list[Slots] = []
        total = 0
        for queue in queues:
            of_queue = list(queue.plan.takes.values())
            found, count = slots_of(of_queue, self._expected, queue.processes)
            takes += of_queue
            slots += [Slots(total + slot.first, slot.size) for slot in found]
            total += count
        if not takes:
            return []
        fronts = {row["lane"]: row["front"] for queue in queues for row in queue.rows}
        first = self._fetch("slots", slots=total)[0]["first"]
        # Those before are known, or over; the next pass finds which of these there are.
        self._memory.frontier, self._memory.number = first, first + total - 1
        values = {
            "lane": [take.lane.id for take in takes],
            "front": [fronts[take.lane.id] for take in takes],
            "runs": [take.runs for take in takes],
            "slots": [slot.size for slot in slots],
            "slot": [first + slot.first for slot in slots],
        }
        return fetch(self._connection, self._admit, values)

    def _settle(self, queues: Sequence[_Queue], taken: Sequence[Row]) -> None:
        got = Counter(row["lane_id"] for row in taken)
        fronts: dict[int, Any] = {}
        for row in taken:
            fronts[row["lane_id"]] = max(row["rank"], fronts.get(row["lane_id"], row["rank"]))
        lanes: list[tuple[Any, ...]] = []
        charges: dict[int, float] = {}
        closed: Counter[int] = Counter()
        for queue in queues:
            charges |= queue.plan.charges
            for row in queue.rows:
                after = settled(queue.plan, row, got[row["lane"]], fronts.get(row["lane"], row["front"]))
                if after is None:
                    continue
                lanes.append(after)
                closed[row["share"]] += after[1] != "open"
                not_taken = self._not_taken(queue.plan, row["lane"], got[row["lane"]])
                charges[row["share"]] = charges.get(row["share"], 0.0) - not_taken
            for row in queue.paused:
                lanes.append((row["lane"], "empty", row["front"], row["arrivals"], row["taken"], None, None))
                closed[row["share"]] += 1
        if lanes:
            columns = dict(zip(SETTLED, map(list, zip(*lanes, strict=True)), strict=True))
            self._execute("settle_lanes", **columns, step=get_settings().priority_step_seconds)
        if ids := sorted(charges.keys() | closed.keys()):
            self._execute(
                "settle_shares",
                share=ids,
                charge=[max(0.0, charges.get(share, 0.0)) for share in ids],
                closed=[closed[share] for share in ids],
            )
        tats = {gate: bucket.tat for queue in queues for gate, bucket in queue.plan.buckets.items()}
        self._settle_gates(tats, {gate: at for queue in queues for gate, at in queue.plan.opens.items()})

    def _not_taken(self, made: Plan, lane: int, got: int) -> float:
        """What was charged for runs that were not there."""
        take = made.takes.get(lane)
        if take is None:
            return 0.0
        return (take.runs - got) * self._expected(take.lane.event).seconds / take.share.weight

    def _settle_gates(self, tats: dict[int, float], opens: dict[int, float]) -> None:
        if gates := sorted(tats.keys() | opens.keys()):
            self._execute(
                "settle_gates",
                gate=gates,
                tat=[tats.get(gate) for gate in gates],
                opens_at=[opens.get(gate) for gate in gates],
            )

    def _execute(self, name: str, **values: Any) -> None:
        execute(self._connection, SQL[name], values)
