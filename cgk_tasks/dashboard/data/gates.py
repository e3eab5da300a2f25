"""The gates of a queue or of a tenant: how much each lets through, what is used, by whom, and when it opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from cgk_tasks.admission.gates import gate_of
from cgk_tasks.events.redaction import redacted
from cgk_tasks.sql.postgres import Connection, Row, fetch, statements

SQL, ADMISSION = statements("lanes"), statements("admission")

MOST_GATES: Final = 50
_MOST_HOLDERS: Final = 3


@dataclass(frozen=True, slots=True)
class Holder:
    """A run that holds a place. since: when it began, or was dispatched."""

    run_id: str
    tenant_id: str
    event: str
    state: str
    since: datetime


@dataclass(frozen=True, slots=True)
class GateLine:
    """A gate as of now. rule: the limit's name. whom: the tenant, and the value of the field that the limit has as key.

    used: places that are taken; None for a gate that counts starts alone. lanes: how many of those asked for wait at
    it. holders: some of those who have its places. opens: when it lets somebody through again, in words.
    """

    rule: str
    whom: str
    limit: str
    used: int | None
    lanes: int
    holders: tuple[Holder, ...]
    opens: str
    opens_at: datetime | None


@dataclass(frozen=True, slots=True)
class Gates:
    """Those that keep most lanes, then those in use. kept: how many gates keep lanes in all."""

    lines: tuple[GateLine, ...]
    kept: int


def gates_of(connection: Connection, *, queue: str | None = None, tenant_id: str | None = None) -> Gates:
    """The gates at which lanes of a queue or of a tenant wait, or have places."""
    values: dict[str, Any] = {"queue": queue, "tenant_id": tenant_id, "limit": MOST_GATES}
    waited = fetch(connection, SQL["gates_waited_at"], values)
    slots = _slots(connection)
    here = _lanes_here(connection, {row["lane_id"] for row in slots}, queue, tenant_id)
    lanes = {row["gate"]: row["lanes"] for row in waited}
    used = Counter(gate for row in slots for gate in row["gates"])
    in_use = Counter(gate for row in slots if row["lane_id"] in here for gate in row["gates"])
    ids = [*lanes, *(gate for gate, _ in in_use.most_common() if gate not in lanes)][:MOST_GATES]
    rows = {row["id"]: row for row in fetch(connection, SQL["gates"], {"ids": ids})}
    holders = _holders(connection, slots, rows)
    lines = tuple(
        _line(rows[gate], lanes.get(gate, 0), used[gate], holders.get(gate, [])) for gate in ids if gate in rows
    )
    return Gates(lines, waited[0]["gates"] if waited else 0)


def _slots(connection: Connection) -> list[Row]:
    """The places that are taken, with their gates: as the next pass would count them."""
    noted = fetch(connection, ADMISSION["noted"])[0]
    return fetch(connection, ADMISSION["usage"], {"frontier": noted["frontier"], "known": noted["known"]})


def _lanes_here(
    connection: Connection, ids: Collection[int], queue: str | None, tenant_id: str | None
) -> Collection[int]:
    rows = fetch(connection, SQL["lanes_of_slots"], {"ids": list(ids)})
    return {row["id"] for row in rows if queue in {None, row["queue"]} and tenant_id in {None, row["tenant_id"]}}


def _holders(connection: Connection, slots: Sequence[Row], gates: Mapping[int, Row]) -> dict[int, list[Holder]]:
    """Some runs of the first slots of each gate, which are held longest."""
    of_gate: dict[int, list[int]] = {}
    for row in sorted(slots, key=lambda row: row["slot"]):
        for gate in row["gates"]:
            if gate in gates and len(of_gate.setdefault(gate, [])) < _MOST_HOLDERS:
                of_gate[gate].append(row["slot"])
    wanted = sorted({slot for its in of_gate.values() for slot in its})
    found = {row["slot"]: _holder(row) for row in fetch(connection, SQL["holders"], {"slots": wanted})}
    return {gate: [found[slot] for slot in its if slot in found] for gate, its in of_gate.items()}


def _holder(row: Row) -> Holder:
    since = row["started_at"] if row["state"] == "running" else row["handed_over_at"]
    return Holder(row["id"], row["tenant_id"], row["event"], row["state"], since)


def _line(row: Row, lanes: int, used: int, holders: Sequence[Holder]) -> GateLine:
    opens, opens_at = _opens(row, used)
    is_counted = row["at_once"] is not None
    return GateLine(
        row["rule"] if row["job"] else "all jobs of the tenant", _whom(row), _limit(row), used if is_counted else None,
        lanes, tuple(holders) if is_counted else (), opens, opens_at,
    )  # fmt: skip


def _whom(row: Row) -> str:
    """The tenant, and the value of the payload's field without what is personal data."""
    tenant, _, value = row["key"].partition(":")
    if row["key_field"] is None or not value:
        return tenant or "all tenants"
    shown = redacted(row["event"], {row["key_field"]: value})[row["key_field"]]
    return f"{tenant or 'all tenants'}, {row['key_field']} {shown}"


def _limit(row: Row) -> str:
    if row["at_once"] is not None:
        lent = f" ({row['lend_to']:,} while nobody else waits)" if row["lend_to"] is not None else ""
        return f"{row['at_once']:,} at once{lent}"
    if row["rate"] is not None:
        return f"{row['rate']:,} in {row['period']:g} s, {row['burst']:,} of them at once"
    return "no limit any more"


def _opens(row: Row, used: int) -> tuple[str, datetime | None]:
    gate = gate_of(row, lending=False)
    if gate.opens_at is not None and gate.opens_at > row["now"]:
        return "opens", datetime.fromtimestamp(gate.opens_at, UTC)
    if gate.at_once is not None and used >= gate.at_once:
        return "when one of its runs ends", None
    if gate.bucket is not None and gate.bucket.free(row["now"]) <= 0:
        return "opens", datetime.fromtimestamp(gate.bucket.opens_at(row["now"]), UTC)
    return "open", None
