"""Why a held run waits in its lane: a limit, a guard, or its place among the others of a crowded queue."""

from __future__ import annotations

from datetime import datetime

from cgk_tasks.flow.guards import GuardStatus
from cgk_tasks.monitoring.why_gates import Gate, counted, when
from cgk_tasks.sql.postgres import Row


def in_lane(lane: Row, now: datetime) -> Gate:
    """A run that a pass admits once its turn has come."""
    number = counted(lane["ahead"])
    before = (
        f"{number} {'run' if lane['ahead'] == 1 else 'runs'} of its lane come{'s' * (lane['ahead'] == 1)} before it"
    )
    if lane.get("guard") is not None:
        return _guarded(lane["guard"], lane["opens_at"], before, now)
    hint = _let_more_through(lane)
    if lane["rule"] is not None and lane["status"] == "full":
        limit = _limited_by(lane, f"{lane['at_once']} at once")
        return Gate("limit", f"It is over a limit ({limit}); {before}.", hint)
    if lane["status"] == "closed" and lane["rate"] is not None and lane["opens_at"] is not None:
        limit = _limited_by(lane, f"{lane['rate']} in {lane['period']:g} s")
        opens = f"the next one may start {when(lane['opens_at'], now)}"
        return Gate("limit", f"It is over a limit ({limit}); {opens}, and {before}.", hint, lane["opens_at"])
    if lane["is_free"]:
        return Gate("in_lane", f"Its queue {lane['queue']!r} is crowded, and {before}. {_share(lane)}")
    return Gate("in_lane", f"It waits for its turn, and {before}; the leader of the workers says when it may start.")


def _guarded(guard: GuardStatus, looked_at: datetime | None, before: str, now: datetime) -> Gate:
    """A run that waits for what it uses, with others of several jobs."""
    causes = {
        "throttled": "its partner asked to wait",
        "failing": f"{guard.failures} runs in a row failed",
        "shut": f"closed by {guard.shut_by or 'hand'}{f': {guard.reason}' if guard.reason else ''}",
    }
    name = f"the guard {guard.name!r}"
    if guard.state == "closed":
        until = f"until {when(guard.opens_at, now)}" if guard.opens_at else "until somebody opens it"
        text = f"{name} is closed {until} ({causes.get(guard.cause or '', '')})"
        option = f" --tenant {guard.tenant_id}" if guard.tenant_id else ""
        hint = f"It goes on by itself. To open it now: cgk-tasks limits open-guard {guard.name}{option}"
        if guard.opens_at is None:
            hint = f"Open it: cgk-tasks limits open-guard {guard.name}{option}"
        return Gate("guard", f"It waits, for {text}; {before}.", hint, guard.opens_at)
    if guard.state == "probing":
        text = f"{name} has failed, and lets one run try at a time"
        return Gate("guard", f"It waits, for {text}; {before}.", "It goes on by itself.", looked_at)
    text = f"{name} lets {guard.limit} on at once now, and {guard.most} at most"
    return Gate("guard", f"It waits, for {text}; {before}.", "It goes on by itself. See: cgk-tasks limits guards")


def _limited_by(lane: Row, number: str) -> str:
    if not lane["job"]:
        return f"tenant {lane['tenant_id']}: {number}, of all jobs"
    return f"{lane['rule']}: {number}"


def _let_more_through(lane: Row) -> str:
    if not lane["job"]:
        return f"It goes on by itself. What the tenant may: cgk-tasks tenants limits {lane['tenant_id']}"
    option = "--at-once N" if lane["at_once"] is not None else "--starts N/TIME"
    return f"It goes on by itself. To let more through: cgk-tasks limits set {lane['job']} {option}"


def _share(lane: Row) -> str:
    others = lane["tenants"] - 1
    if not others:
        return "No other tenant waits there, so its own has all of the workers' time."
    whose = f"{others:,} other {'tenant waits' if others == 1 else 'tenants wait'} there"
    return f"{whose}, and its own gets {100 * lane['share']:.3g} % of the workers' time."
