"""The lanes of runs: from the rules that a run is under, and what it is about, to the gates that it must pass."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from cgk_tasks.admission.gates import WantedGate, find_gates, gate_ids, gate_key
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.lanes import LaneKey, lane_ids
from cgk_tasks.admission.rules import AtOnce, GateRule, Limit, rule_name
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import Connection, execute, fetch, statements

SQL, GUARDS = statements("admission"), statements("guards")

_MOST_KNOWN: Final = 50_000
"""Lanes that a process remembers: a key may be any value."""

_KNOWN_FOR_SECONDS: Final = 3600.0
"""A lane that nobody has looked up for a day may be gone."""

_NOTE_AGAIN_SECONDS: Final = 30.0
"""A process of an older deployment may have noted other numbers meanwhile; the newer ones stay."""


class ForLane(NamedTuple):
    """A run that is to wait, and the rules that it is under, if any. payload: as on the wire, for the fields that are
    keys.
    """

    queue: str
    tenant_id: str
    event: str
    priority: int
    alone: bool = False
    rules: Sequence[GateRule] = ()
    payload: Mapping[str, Any] = MappingProxyType({})


class Lanes:
    """Ids of rules, gates and lanes that this process has met, so that a run usually asks for none of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: dict[str, tuple[GateRule, int, float]] = {}
        self._gates: dict[tuple[int, str], int] = {}
        self._lanes: dict[LaneKey, int] = {}
        self._until = time.monotonic() + _KNOWN_FOR_SECONDS

    def known(self, runs: Sequence[ForLane]) -> list[int] | None:
        """The lanes of these runs, if nothing limits any and this process has met all of them."""
        if any(run.rules for run in runs) or time.monotonic() > self._until:
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

    def note(self, connection: Connection, rules: Sequence[GateRule]) -> None:
        """Have these rules on record, before a run comes that is under one."""
        for rule in rules:
            self._rule_id(connection, "", rule, notes_again=True)

    def unkeyed_gates(self, connection: Connection, run: ForLane) -> list[int] | None:
        """The gates of a run that do not depend on its payload; None if one of them is not there yet."""
        plain = run._replace(rules=[rule for rule in run.rules if rule.limit.key is None])
        wanted = self._gates_of(connection, plain, notes_again=False)
        if unknown := [gate for gate in wanted if gate[:2] not in self._gates]:
            self._gates |= find_gates(connection, unknown)
        ids = [self._gates.get(gate[:2]) for gate in wanted]
        return None if None in ids else [gate for gate in ids if gate is not None]

    def _gates_of(self, connection: Connection, run: ForLane, *, notes_again: bool = True) -> list[WantedGate]:
        return [
            _wanted(
                self._rule_id(connection, run.event, rule, notes_again=notes_again),
                gate_key(rule.limit.per, run.tenant_id, run.payload.get(rule.limit.key) if rule.limit.key else None),
                rule,
            )
            for rule in run.rules
        ]

    def _rule_id(self, connection: Connection, event: str, rule: GateRule, *, notes_again: bool) -> int:
        name, now = rule.name, time.monotonic()
        known = self._rules.get(name)
        if known is not None and known[0] == rule and (now < known[2] or not notes_again):
            return known[1]
        with self._lock:
            rule_id = note_rule(connection, event if rule.job else "", rule)
            self._rules[name] = rule, rule_id, now + _NOTE_AGAIN_SECONDS
            return rule_id


def _keys(
    runs: Sequence[ForLane], wanted: Sequence[Sequence[WantedGate]], ids: Mapping[tuple[int, str], int]
) -> list[LaneKey]:
    return [
        LaneKey(run.queue, run.tenant_id, run.event, run.priority, tuple(ids[gate[:2]] for gate in gates), run.alone)
        for run, gates in zip(runs, wanted, strict=True)
    ]


def note_rule(connection: Connection, event: str, rule: GateRule) -> int:
    """The id of a rule, which is made if it is not there."""
    limit = rule.limit
    if isinstance(limit, Guard):
        return note_guard(connection, limit)
    values = {
        "name": rule.name, "job": rule.job, "event": event, "kind": limit.kind, "per": limit.per, "key_field":
        limit.key,
    }  # fmt: skip
    if not rule.is_declared:
        execute(connection, SQL["note_set_rule"], values)
    elif fetch(connection, SQL["note_rule"], values | {"declared": json.dumps(numbers_of(limit))}):
        with connection.transaction():  # under the lock: what is set meanwhile is not written over
            fetch(connection, SQL["lock_out_passes"])
            execute(connection, SQL["renumber_gates"], {"name": rule.name})
    return int(fetch(connection, SQL["find_rule"], {"name": rule.name})[0]["id"])


def note_guard(connection: Connection, guard: Guard) -> int:
    """The id of a guard's rule, which is made if it is not there. What is declared counts from now on."""
    rule = rule_name(guard.name, guard)
    values = {"name": rule, "job": guard.name, "event": "", "kind": guard.kind, "per": guard.per, "key_field": None}
    execute(connection, SQL["note_set_rule"], values)
    declared = {"rule": rule, "name": guard.name, "per": guard.per, "at_once": guard.at_once}
    if fetch(connection, GUARDS["declare"], declared | {"probe_after": guard.probe_seconds}):
        with connection.transaction():
            fetch(connection, SQL["lock_out_passes"])
            execute(connection, GUARDS["keep_to_most"], declared)
    return int(fetch(connection, SQL["find_rule"], {"name": rule})[0]["id"])


def _wanted(rule_id: int, key: str, rule: GateRule) -> WantedGate:
    return WantedGate(rule_id, key, **numbers_of(rule.limit)) if rule.is_declared else WantedGate(rule_id, key)


def numbers_of(limit: Limit | Guard) -> dict[str, Any]:
    """The columns of a gate that say how much."""
    numbers: dict[str, Any] = dict.fromkeys(WantedGate._fields[2:])
    if isinstance(limit, Guard):
        return numbers | {"at_once": limit.at_once}
    if isinstance(limit, AtOnce):
        return numbers | {"at_once": limit.limit, "lend_to": limit.lend_to}
    return numbers | {"rate": limit.limit, "period": limit.period, "burst": limit.burst_at_least}


LANES = Part(Lanes)
