"""The runs of a packet that something limits or pauses: only those that a pass has admitted are executed.

The others came by another way: their sender did not know of the limits, or a retry is due whose payload says where it
has to wait. They go into their lanes, which costs no attempt, and come back when it is their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cgk_tasks.admission.guard_reports import is_refused_here, place_of
from cgk_tasks.admission.guards import Guard
from cgk_tasks.admission.lanes import Told, tell, told_of
from cgk_tasks.admission.limits import LANES, ForLane
from cgk_tasks.admission.set_rules import set_rules
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.flow import lanes
from cgk_tasks.flow.send_rules import key_fields
from cgk_tasks.jobs.rate_limit import kept_by_admission
from cgk_tasks.jobs.registry import Job
from cgk_tasks.runs.models import Place
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql.postgres import Connection, autocommit, execute, fetch, statements, uuid_array

SQL, GUARDS, TRANSITIONS = statements("admission"), statements("guards"), statements("transitions")
JobsOf = Callable[[Claimed], Sequence[Job]]


def hold_limited(ids: Sequence[str], runs: Sequence[Claimed], jobs_of: JobsOf, worker_id: str) -> list[Claimed]:
    """Put those of a packet's runs into their lanes that are paused, or limited and not admitted. Returns the others.

    ids: all of the packet. Those that the claim has left held, because their tenant is suspended or their queue paused,
    are back in their lanes. Raises psycopg.Error.
    """
    limited = _limited(runs, jobs_of)
    if not limited and len(runs) == len(ids):
        return list(runs)
    with autocommit() as connection:
        if len(runs) < len(ids):
            _tell_held(connection, ids)
        if not limited:
            return list(runs)
        gates = _admitted(connection, limited)
        held = [
            run for run in runs if run.id in limited and not _may_start(connection, limited[run.id], gates.get(run.id))
        ]
        if held:
            _hold(connection, [limited[run.id] for run in held], held, worker_id)
    not_admitted = {run.id for run in held}
    return [run for run in runs if run.id not in not_admitted]


def _admitted(connection: Connection, limited: Mapping[str, ForLane]) -> dict[str, Sequence[int]]:
    """The gates that these runs have passed, if a pass has admitted them, and no guard was closed since."""
    has_guards = any(isinstance(rule.limit, Guard) for lane in limited.values() for rule in lane.rules)
    rows = fetch(connection, (GUARDS if has_guards else SQL)["admitted"], {"ids": uuid_array(limited)})
    return {row["id"]: row["gates"] for row in rows if not row.get("is_refused")}


def is_refused(run: Claimed, jobs_of: JobsOf) -> bool:
    """Whether this process knows already that a guard of the run's job is closed: it was asked to wait."""
    if not kept_by_admission.get() or len(jobs := jobs_of(run)) != 1:
        return False
    guards = [limit for limit in jobs[0].limits if isinstance(limit, Guard)]
    return any(is_refused_here(place_of(guard, run.tenant_id)) for guard in guards)


def hold_back(runs: Sequence[Claimed], jobs_of: JobsOf, worker_id: str) -> list[Claimed]:
    """Put those of these runs into their lanes again that are limited. Returns the others. Raises psycopg.Error."""
    limited = _limited(runs, jobs_of)
    if limited:
        with autocommit() as connection:
            held = [run for run in runs if run.id in limited]
            _hold(connection, [limited[run.id] for run in held], held, worker_id)
    return [run for run in runs if run.id not in limited]


def apart(runs: Sequence[Claimed], jobs_of: JobsOf) -> tuple[list[Claimed], list[Claimed]]:
    """The runs that are limited, and the others."""
    limited = _limited(runs, jobs_of)
    return [run for run in runs if run.id in limited], [run for run in runs if run.id not in limited]


def schedule_held(run_id: str) -> None:
    """Have a run of a lane dispatched again in a second, which this worker has no job for. Raises psycopg.Error."""
    if SWITCH.current().has_lanes:
        with autocommit() as connection:
            execute(connection, TRANSITIONS["schedule_held"], {"ids": uuid_array([run_id])})


def _limited(runs: Sequence[Claimed], jobs_of: JobsOf) -> Mapping[str, ForLane]:
    """Those of these runs that are limited or paused, and where they have to wait, by their ids. A run of several jobs
    becomes the parent of one for each, and those are limited.
    """
    set_now = set_rules()
    found: dict[str, ForLane] = {}
    for run in runs:
        jobs = jobs_of(run)
        rules = set_now.rules(run.tenant_id, jobs[0].id, jobs[0].limits) if len(jobs) == 1 else ()
        if rules or set_now.is_paused(run.queue, run.tenant_id, run.event):
            found[run.id] = ForLane(run.queue, run.tenant_id, run.event, run.priority, run.deaths > 0, rules)
    return found


def _may_start(connection: Connection, lane: ForLane, gates: Sequence[int] | None) -> bool:
    """Whether the run is not paused, and has passed all that it is under. gates: those that it has passed, if a pass
    has admitted it; it may have come into its lane before some of its rules were set. Gates of a value of the payload
    are only counted.
    """
    if not gates or len(gates) < len(lane.rules) or set_rules().is_paused(lane.queue, lane.tenant_id, lane.event):
        return False
    unkeyed = LANES.current().unkeyed_gates(connection, lane)
    return unkeyed is not None and set(unkeyed) <= set(gates)


def _hold(connection: Connection, places: Sequence[ForLane], runs: Sequence[Claimed], worker_id: str) -> None:
    """Put runs into their lanes."""
    keyed = [_with_payload(place, run) for place, run in zip(places, runs, strict=True)]
    values = {
        "ids": [run.id for run in runs],
        "attempts": [run.attempt for run in runs],
        "lanes": LANES.current().of(connection, keyed),
        "worker_id": worker_id,
    }
    held = fetch(connection, TRANSITIONS["hold_in_lane"], values)
    lanes.tell(told_of(Place(row["lane"], row["rank"]) for row in held))


def _with_payload(lane: ForLane, run: Claimed) -> ForLane:
    has_keys = any(rule.limit.key is not None for rule in lane.rules)
    return lane._replace(payload=_fields(run)) if has_keys else lane


def _fields(run: Claimed) -> Mapping[str, Any]:
    try:
        return key_fields(run.payload)
    except Exception:  # noqa: BLE001 - what is stored is damaged: the run fails once it is executed
        return {}


def _tell_held(connection: Connection, ids: Sequence[str]) -> None:
    rows = fetch(connection, SQL["held_again"], {"ids": uuid_array(ids)})
    if rows:
        tell(connection, {row["lane"]: Told(row["runs"], row["rank"]) for row in rows})
