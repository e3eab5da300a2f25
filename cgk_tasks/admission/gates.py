"""Gates: a rule for one key. They are rows, which senders make as they meet the keys."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from cgk_tasks.admission.buckets import Bucket
from cgk_tasks.admission.plan import Gate
from cgk_tasks.admission.rule_checks import Per
from cgk_tasks.sql.postgres import AnyConnection, Row, execute, fetch, statements

SQL = statements("admission")

_LONGEST_KEY: Final = 200


class WantedGate(NamedTuple):
    """A gate by its rule and key, with the numbers that it gets if it is not there yet."""

    rule_id: int
    key: str
    at_once: int | None = None
    lend_to: int | None = None
    rate: int | None = None
    period: float | None = None
    burst: int | None = None


def gate_key(per: Per, tenant_id: str, value: object = None) -> str:
    """The key of a run's gate. value: of the payload's field, if the rule has one; None is a key of its own."""
    whose = tenant_id if per == "tenant" else ""
    if value is None:
        return whose
    text = f"{whose}:{value}"
    if len(text) <= _LONGEST_KEY and text.isprintable():
        return text
    return f"{whose}:sha256:{hashlib.sha256(text.encode(errors='backslashreplace')).hexdigest()}"


def gate_ids(connection: AnyConnection, wanted: Sequence[WantedGate]) -> list[int]:
    """The ids of gates, which are made if they are not there, in the order in which they were asked for."""
    if not wanted:
        return []
    found = find_gates(connection, wanted)
    missing = [gate for gate in wanted if (gate.rule_id, gate.key) not in found]
    if missing:
        execute(connection, SQL["make_gates"], _columns(missing))
        found |= find_gates(connection, missing)
    return [found[gate.rule_id, gate.key] for gate in wanted]


def find_gates(connection: AnyConnection, wanted: Sequence[WantedGate]) -> dict[tuple[int, str], int]:
    """The ids of those of these gates that are there, by rule and key."""
    rows = fetch(connection, SQL["find_gates"], _columns(wanted))
    return {(row["rule_id"], row["key"]): row["id"] for row in rows}


def _columns(wanted: Sequence[WantedGate]) -> dict[str, list[Any]]:
    return {name: list(column) for name, column in zip(WantedGate._fields, zip(*wanted, strict=True), strict=True)}


def gate_of(row: Row, *, lending: bool) -> Gate:
    """A gate as the plan wants it. lending: whether limits that may be exceeded while nobody else waits, are."""
    bucket = None if row["rate"] is None else Bucket(row["rate"], row["period"], row["burst"], row["tat"])
    at_once = row["lend_to"] if lending and row["lend_to"] is not None else row["at_once"]
    return Gate(row["id"], at_once, bucket, row["opens_at"])


def room_at(gate: Gate, used: int, now: float, *, most: int) -> int:
    """How many the gate lets through now, of which `used` have a slot there, and no more than `most`."""
    if gate.opens_at is not None and gate.opens_at > now:
        return 0
    room = most
    if gate.at_once is not None:
        room = min(room, gate.at_once - used)
    if gate.bucket is not None:
        room = min(room, gate.bucket.free(now))
    return max(0, room)
