"""The lanes of runs: from the rules of a job and what a run is about to the gates that it must pass."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cgk_tasks.admission.gates import WantedGate, gate_ids, gate_key
from cgk_tasks.admission.lanes import LaneKey, lane_ids
from cgk_tasks.admission.rules import AtOnce, Limit, rule_name
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import AnyConnection, Connection, execute, fetch, statements

SQL = statements("admission")

_MOST_KNOWN: Final = 50_000
"""Lanes that a process remembers: a key may be any value."""

_KNOWN_FOR_SECONDS: Final = 3600.0
"""A lane that nobody has looked up for a day may be gone."""

_NOTE_AGAIN_SECONDS: Final = 30.0
"""A process of an older deployment may have noted other numbers meanwhile; the newer ones stay."""


class ForLane(NamedTuple):
    """A run that is to wait, and the limits of its job, if it has any. payload: as on the wire, for the fields that are
    keys.
    """

    queue: str
    tenant_id: str
    event: str
    priority: int
    alone: bool = False
    job: str = ""
    limits: Sequence[Limit] = ()
    payload: Mapping[str, Any] = MappingProxyType({})


class Lanes:
    """Ids of rules, gates and lanes that this process has met, so that a run usually asks for none of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, tuple[Limit, int, float]] = {}
        self._gates: dict[tuple[int, str], int] = {}
        self._lanes: dict[LaneKey, int] = {}
        self._until = time.monotonic() + _KNOWN_FOR_SECONDS

    def known(self, runs: Sequence[ForLane]) -> list[int] | None:
        """The lanes of these runs, if nothing limits any and this process has met all of them."""
        if any(run.limits for run in runs) or time.monotonic() > self._until:
            return None
        keys, lanes = _keys(runs, [()] * len(runs), {}), self._lanes
        return [lanes[key] for key in keys] if lanes.keys() >= set(keys) else None

    def of(self, connection: Connection, runs: Sequence[ForLane]) -> list[int]:
        """The lane of each of these runs. What is not there yet is made."""
        if len(self._lanes) > _MOST_KNOWN or time.monotonic() > self._until:
            self._gates, self._lanes, self._until = {}, {}, time.monotonic() + _KNOWN_FOR_SECONDS
        gates, lanes = self._gates, self._lanes  # another thread may begin anew meanwhile
        wanted = [self._gates_of(connection, run) for run in runs]
        unknown = {gate[:2]: gate for all_of_run in wanted for gate in all_of_run if gate[:2] not in gates}
        keys = [] if unknown else _keys(runs, wanted, gates)
        if unknown or not lanes.keys() >= set(keys):
            with connection.transaction():
                fetch(connection, SQL["lock_out_passes"])
                new_gates = dict(zip(unknown, gate_ids(connection, list(unknown.values())), strict=True))
                keys = _keys(runs, wanted, gates | new_gates)
                new_lanes = lane_ids(connection, list(set(keys) - lanes.keys()))
            gates |= new_gates
            lanes |= new_lanes
        return [lanes[key] for key in keys]

    def _gates_of(self, connection: AnyConnection, run: ForLane) -> list[WantedGate]:
        return [
            _wanted(
                self._rule_id(connection, run, limit),
                gate_key(limit.per, run.tenant_id, run.payload.get(limit.key) if limit.key else None),
                limit,
            )
            for limit in run.limits
        ]

    def _rule_id(self, connection: AnyConnection, run: ForLane, limit: Limit) -> int:
        name = rule_name(run.job, limit)
        now = time.monotonic()
        known = self._rules.get(name)
        if known is not None and known[0] == limit and now < known[2]:
            return known[1]
        with self._lock:
            rule_id = _noted(connection, name, run, limit)
            self._rules[name] = limit, rule_id, now + _NOTE_AGAIN_SECONDS
            return rule_id


def _keys(
    runs: Sequence[ForLane], wanted: Sequence[Sequence[WantedGate]], ids: Mapping[tuple[int, str], int]
) -> list[LaneKey]:
    return [
        LaneKey(run.queue, run.tenant_id, run.event, run.priority, tuple(ids[gate[:2]] for gate in gates), run.alone)
        for run, gates in zip(runs, wanted, strict=True)
    ]


def _noted(connection: AnyConnection, name: str, run: ForLane, limit: Limit) -> int:
    numbers = _wanted(0, "", limit)._asdict()
    del numbers["rule_id"], numbers["key"]
    values = {
        "name": name, "job": run.job, "event": run.event, "kind": limit.kind, "per": limit.per,
        "key_field": limit.key, "declared": json.dumps(numbers),
    }  # fmt: skip
    noted = fetch(connection, SQL["note_rule"], values)
    if noted:
        execute(connection, SQL["renumber_gates"], numbers | {"rule_id": noted[0]["id"]})
        return int(noted[0]["id"])
    return int(fetch(connection, SQL["find_rule"], {"name": name})[0]["id"])


def _wanted(rule_id: int, key: str, limit: Limit) -> WantedGate:
    if isinstance(limit, AtOnce):
        return WantedGate(rule_id, key, at_once=limit.limit, lend_to=limit.lend_to)
    return WantedGate(rule_id, key, rate=limit.limit, period=limit.period, burst=limit.burst_at_least)


LANES = Part(Lanes)
