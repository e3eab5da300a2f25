"""Between the rows of a pass and its plan: shares with their lanes, lanes as they are afterwards, runs by slot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from cgk_tasks.admission.plan import Lane, Plan, Share
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.sql.postgres import Row

SETTLED: Final = ("lane", "status", "front", "arrivals", "taken", "waits_at", "vkey")

_MORE: Final = 100


def settled(made: Plan, row: Row, got: int, front: Any) -> tuple[Any, ...] | None:
    """A lane as it is after the pass; None if nothing has happened to it."""
    lane, arrivals = row["lane"], row["arrivals"]
    take, refusal = made.takes.get(lane), made.refusals.get(lane)
    wanted = take.runs if take is not None else 0
    if take is None and refusal is None:
        return None
    # Where there were fewer than the lane was told of, the others are gone; where there were more, there may be many.
    taken = min(arrivals, row["taken"] + got) if got == wanted else arrivals
    if wanted and got == wanted and row["taken"] >= arrivals:
        taken = arrivals - _MORE
    is_through = got == wanted and row["taken"] < arrivals == taken
    if take is not None and (got == 0 or is_through):
        return lane, "empty", front, arrivals, arrivals, None, None
    if refusal is not None:
        return lane, refusal.status, front, arrivals, taken, refusal.gate, refusal.vtime
    return lane, "open", front, arrivals, taken, None, None


def shares(rows: Sequence[Row]) -> list[Share]:
    found: dict[int, tuple[Row, list[Lane]]] = {}
    for row in rows:
        lane = Lane(row["lane"], row["event"], row["gates"], row["waiting"], row["alone"], row["priority"])
        found.setdefault(row["share"], (row, []))[1].append(lane)
    return [Share(share, row["vtime"], row["weight"], lanes) for share, (row, lanes) in found.items()]


def packets(rows: Sequence[Row]) -> list[list[Dispatch]]:
    """The runs of each slot, which travel in one message. Tenants take turns here, too."""
    by_slot: dict[int, list[Dispatch]] = {}
    for row in rows:
        by_slot.setdefault(row["slot"], []).append(Dispatch.of(row))
    turns: Counter[str] = Counter()
    order = []
    for slot in sorted(by_slot):
        tenant = by_slot[slot][0].tenant_id
        order.append((turns[tenant], slot))
        turns[tenant] += 1
    return [by_slot[slot] for _, slot in sorted(order)]
