"""Lanes: where runs wait that something limits, or whose queue is crowded. Who puts runs into a lane tells it then.

All runs of a lane have the same queue, tenant, event, priority and gates, so that the first of them speaks for all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cgk_tasks.config import get_settings
from cgk_tasks.runs.models import Place
from cgk_tasks.sql.postgres import AnyConnection, Connection, execute, fetch, statements

SQL = statements("admission")


class LaneKey(NamedTuple):
    """What a lane is known by. alone: for runs whose process died, each of which gets a slot of its own."""

    queue: str
    tenant_id: str
    event: str
    priority: int
    gates: tuple[int, ...] = ()
    alone: bool = False


class Told(NamedTuple):
    """That so many runs have come into a lane, the earliest of them due at `rank`."""

    runs: int
    rank: datetime


def lane_ids(connection: AnyConnection, keys: Sequence[LaneKey]) -> dict[LaneKey, int]:
    """The ids of lanes, which are made if they are not there. Those that are stay for a day at least."""
    found = _find(connection, keys)
    if found:
        execute(connection, SQL["touch_lanes"], {"lanes": list(found.values())})
    missing = [key for key in keys if key not in found]
    if missing:
        execute(connection, SQL["make_shares"], _columns(missing))
        execute(connection, SQL["make_lanes"], _columns(missing))
        found |= _find(connection, missing)
    return found


def _find(connection: AnyConnection, keys: Sequence[LaneKey]) -> dict[LaneKey, int]:
    return {keys[row["place"] - 1]: row["id"] for row in fetch(connection, SQL["find_lanes"], _columns(keys))}


def _columns(keys: Sequence[LaneKey]) -> dict[str, list[Any]]:
    return {
        "queue": [key.queue for key in keys],
        "tenant_id": [key.tenant_id for key in keys],
        "event": [key.event for key in keys],
        "priority": [key.priority for key in keys],
        "alone": [key.alone for key in keys],
        "gates": [f"{{{','.join(map(str, key.gates))}}}" for key in keys],
    }


def tell(connection: Connection, told: Mapping[int, Told]) -> dict[int, str]:
    """Say that runs have come into lanes, once they are committed. Returns the lanes that are there, with their status;
    one that is `new` waits for a pass.
    """
    if not told:
        return {}
    if len(told) == 1:
        lane, (runs, rank) = next(iter(told.items()))
        return _tell(connection, "tell_one", lane, runs, rank)
    lanes = sorted(told)
    with connection.transaction():
        fetch(connection, SQL["lock_out_passes"])
        runs_of, ranks = [told[lane].runs for lane in lanes], [told[lane].rank for lane in lanes]
        return _tell(connection, "tell", lanes, runs_of, ranks)


def _tell(connection: Connection, name: str, lane: object, runs: object, rank: object) -> dict[int, str]:
    values = {"lane": lane, "runs": runs, "rank": rank, "step": get_settings().priority_step_seconds}
    return {row["id"]: row["status"] for row in fetch(connection, SQL[name], values)}


def told_of(places: Iterable[Place]) -> dict[int, Told]:
    """What lanes are told of single runs."""
    ranks: dict[int, list[datetime]] = {}
    for lane, rank in places:
        ranks.setdefault(lane, []).append(rank)
    return {lane: Told(len(of_lane), min(of_lane)) for lane, of_lane in ranks.items()}
