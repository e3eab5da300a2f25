"""The leader's part of guards: takes what workers saw into account, and moves the gates under the lock of passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog

from cgk_tasks.admission.guard_moves import GuardState, Report, moved
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, fetch, statements, transaction

SQL, ADMISSION = statements("guards"), statements("admission")
log = structlog.get_logger("cgk_tasks.guards")

_REPORTS_AT_ONCE: Final = 1000


@dataclass(slots=True)
class _Moving:
    """A guard's gate while reports are taken into account. row: the first of its reports."""

    row: Row
    before: GuardState
    after: GuardState
    asked: int = 0
    failed: int = 0


def are_declared() -> bool:
    """Whether there are guards on record. Raises psycopg.Error."""
    with autocommit() as connection:
        return bool(fetch(connection, SQL["are_declared"])[0]["yes"])


def decide() -> int:
    """Move the guards as their runs' reports say. Returns how many reports there were. Raises psycopg.Error."""
    with autocommit() as connection:
        if not fetch(connection, SQL["are_reported"])[0]["yes"]:
            return 0
    with transaction() as connection:
        fetch(connection, ADMISSION["lock"])
        rows = fetch(connection, SQL["take_reports"], {"limit": _REPORTS_AT_ONCE})
        guards = _moved(rows)
        _write(connection, guards)
    for guard in guards.values():
        _log(guard)
    return len(rows)


def _moved(rows: Sequence[Row]) -> dict[int, _Moving]:
    guards: dict[int, _Moving] = {}
    for row in rows:
        state = GuardState(row["state"], row["limit_now"], row["failures"], row["closures"], row["opens_at"])
        guard = guards.setdefault(row["gate_id"], _Moving(row, state, state))
        seen = Report(*(row[f"seen_{name}"] for name in Report._fields))
        guard.after = moved(guard.after, seen, row["now"], most=row["most"], probe_after=row["probe_after"])
        guard.asked += row["seen_asked"]
        guard.failed += row["seen_all_failures"]
    return guards


def _write(connection: Connection, guards: dict[int, _Moving]) -> None:
    gates = sorted(gate for gate, one in guards.items() if one.after != one.before or one.asked or one.failed)
    if not gates:
        return
    put_states(
        connection, {gate: guards[gate].after for gate in gates},
        closes=[_closes(guards[gate]) for gate in gates],
        asked=[guards[gate].asked for gate in gates],
        failed=[guards[gate].failed for gate in gates],
    )  # fmt: skip
    changed = [(gate, guards[gate]) for gate in gates if _numbers(guards[gate].before) != _numbers(guards[gate].after)]
    if changed:
        move_gates(connection, {gate: (one.after, one.row["probe_after"]) for gate, one in changed})


def _numbers(guard: GuardState) -> tuple[Any, ...]:
    return guard.at_once, guard.state, guard.opens_at


def _closes(guard: _Moving) -> bool:
    now = guard.row["now"]
    return guard.after.is_closed(now) and guard.after.opens_at != guard.before.opens_at


def put_states(
    connection: Connection,
    states: dict[int, GuardState],
    *,
    closes: Sequence[bool],
    asked: Sequence[int] = (),
    failed: Sequence[int] = (),
) -> None:
    """Write how guards are, by their gates. closes: whether each was closed just now."""
    values = {
        "gate_id": list(states),
        "state": [one.state for one in states.values()],
        "limit_now": [one.limit for one in states.values()],
        "failures": [one.failures for one in states.values()],
        "closures": [one.closures for one in states.values()],
        "opens_at": [one.opens_at for one in states.values()],
        "closes": list(closes),
        "asked": list(asked) or [0] * len(states),
        "failed": list(failed) or [0] * len(states),
    }
    execute(connection, SQL["put_states"], values)


def move_gates(connection: Connection, states: dict[int, tuple[GuardState, float]]) -> None:
    """Have gates let through what their guards say, each with its time after which a run may try."""
    values = {
        "gate_id": list(states),
        "at_once": [guard.at_once for guard, _probe in states.values()],
        "is_probed": [guard.state == "failing" for guard, _probe in states.values()],
        "probe_after": [probe for _guard, probe in states.values()],
        "opens_at": [guard.opens_at for guard, _probe in states.values()],
    }
    execute(connection, SQL["move_gates"], values)


def _log(guard: _Moving) -> None:
    row, now = guard.row, guard.row["now"]
    before, after = guard.before, guard.after
    names = {"guard": row["name"], **({"tenant": row["key"]} if row["key"] else {})}
    if after.is_closed(now) and not before.is_closed(now):
        log.warning(
            "guard_closed", **names, reason=after.state, seconds=round(after.opens_at - now, 1),
            at_once_then=after.at_once,
        )  # fmt: skip
    elif after.state == "open" and before.state != "open":
        log.info("guard_opened", **names, after=before.state, at_once=after.at_once)
