"""What is on already when a limit is new: it takes places as well, so that nothing starts before fewer are on."""

from __future__ import annotations

from collections.abc import Sequence

from cgk_tasks.admission.gates import WantedGate, gate_ids, gate_key
from cgk_tasks.admission.lanes import LaneKey, lane_ids
from cgk_tasks.admission.limits import note_rule
from cgk_tasks.admission.rules import GateRule
from cgk_tasks.sql.postgres import Connection, Row, execute, fetch, statements

SQL, TRANSITIONS = statements("limits"), statements("transitions")


def count_running(
    connection: Connection, rule: GateRule, *, tenants: Sequence[str] | None = None, job: str = "", event: str = ""
) -> None:
    """Have the runs that workers hold take places at the gate of a new rule without a key: of these tenants, or of all;
    of a job, or of all. The caller holds the lock of passes.

    A process executes its runs one after another, so those of one take one place, as a packet does.
    """
    values = {"tenants": None if tenants is None else list(tenants), "job": job or None, "event": event or None}
    rows = fetch(connection, SQL["running"], values)
    if not rows:
        return
    rule_id = note_rule(connection, event, rule)
    wanted = [WantedGate(rule_id, gate_key(rule.limit.per, row["tenant_id"])) for row in rows]
    gates = gate_ids(connection, wanted)
    missing = [(row, gate) for row, gate in zip(rows, gates, strict=True) if gate not in row["gates"]]
    if not missing:
        return
    keys = [_lane(row, (gate, *row["gates"]) if not job else (*row["gates"], gate)) for row, gate in missing]
    lanes = lane_ids(connection, list(set(keys)))
    processes = sorted({(row["worker_id"], row["worker_pid"]) for row, _gate in missing})
    execute(
        connection,
        TRANSITIONS["count_running"],
        {
            "ids": [row["id"] for row, _gate in missing],
            "lanes": [lanes[key] for key in keys],
            "processes": [processes.index((row["worker_id"], row["worker_pid"])) for row, _gate in missing],
        },
    )


def _lane(row: Row, gates: tuple[int, ...]) -> LaneKey:
    return LaneKey(row["queue"], row["tenant_id"], row["event"], row["priority"], gates, row["deaths"] > 0)
