"""Lanes: where runs wait that something limits. Who puts runs into a lane tells it afterwards.

All runs of a lane have the same queue, tenant, event, priority and gates, so that the first of them speaks for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from cgk_tasks.config import get_settings
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
    if len(told) < 2:
        return _tell(connection, told)
    with connection.transaction():
        fetch(connection, SQL["lock_out_passes"])
        return _tell(connection, told)


def _tell(connection: Connection, told: Mapping[int, Told]) -> dict[int, str]:
    lanes = sorted(told)
    values = {
        "lane": lanes,
        "runs": [told[lane].runs for lane in lanes],
        "rank": [told[lane].rank for lane in lanes],
        "step": get_settings().priority_step_seconds,
    }
    return {row["id"]: row["status"] for row in fetch(connection, SQL["tell"], values)}
