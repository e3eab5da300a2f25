"""The runs of a packet that something limits: only those that a pass has admitted are executed.

The others came by another way: their sender published them, a retry was due, or their first message was lost. They are
admitted here if nobody waits and their limits have room. Else they go into their lanes, which costs no attempt, and
come back when it is their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cgk_tasks.admission.in_place import IN_PLACE
from cgk_tasks.admission.lanes import Told, tell
from cgk_tasks.admission.limits import LANES, Limited
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.jobs.registry import Job
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, fetch, statements, uuid_array

SQL, TRANSITIONS = statements("admission"), statements("transitions")
JobsOf = Callable[[Claimed], Sequence[Job]]


def hold_limited(ids: Sequence[str], runs: Sequence[Claimed], jobs_of: JobsOf, worker_id: str) -> list[Claimed]:
    """Put those of a packet's runs into their lanes that are limited and were not admitted. Returns the others.

    ids: all of the packet. Those that the claim has left held, because their tenant is suspended or their queue paused,
    are back in their lanes. Raises psycopg.Error.
    """
    limited = {run.id: job for run in runs if (job := _limited_job(jobs_of(run))) is not None}
    if not limited and len(runs) == len(ids):
        return list(runs)
    with autocommit() as connection:
        if len(runs) < len(ids):
            _tell_held(connection, ids)
        if not limited:
            return list(runs)
        found = fetch(connection, SQL["admitted"], {"ids": uuid_array(limited)})
        not_admitted = limited.keys() - {row["id"] for row in found}
        held = [run for run in runs if run.id in not_admitted]
        if held and _hold(connection, held, limited, worker_id, in_place=True):
            return list(runs)
    return [run for run in runs if run.id not in not_admitted]


def hold_back(runs: Sequence[Claimed], jobs_of: JobsOf, worker_id: str) -> list[Claimed]:
    """Put those of these runs into their lanes again that are limited. Returns the others. Raises psycopg.Error."""
    limited, others = apart(runs, jobs_of)
    if limited:
        with autocommit() as connection:
            _hold(connection, limited, {run.id: jobs_of(run)[0] for run in limited}, worker_id, in_place=False)
    return others


def apart(runs: Sequence[Claimed], jobs_of: JobsOf) -> tuple[list[Claimed], list[Claimed]]:
    """The runs that are limited, and the others."""
    limited = [run for run in runs if _limited_job(jobs_of(run)) is not None]
    known = {run.id for run in limited}
    return limited, [run for run in runs if run.id not in known]


def hold_unpublished(ids: Sequence[str]) -> None:
    """Put admitted runs into their lanes again that the broker did not take. Raises psycopg.Error."""
    with autocommit() as connection:
        _tell(connection, fetch(connection, TRANSITIONS["hold_unpublished"], {"ids": uuid_array(ids)}))


def schedule_held(run_id: str) -> None:
    """Have a run of a lane dispatched again in a second, which this worker has no job for. Raises psycopg.Error."""
    if SWITCH.current().has_lanes:
        with autocommit() as connection:
            execute(connection, TRANSITIONS["schedule_held"], {"ids": uuid_array([run_id])})


def _limited_job(jobs: Sequence[Job]) -> Job | None:
    """The job of a run that is limited. A run of several jobs becomes the parent of one for each, and those are."""
    return jobs[0] if len(jobs) == 1 and jobs[0].limits else None


def _hold(
    connection: Connection, runs: Sequence[Claimed], jobs: dict[str, Job], worker_id: str, *, in_place: bool
) -> bool:
    """Put runs into their lanes. in_place: unless their limits have room now, and nobody waits. Returns whether so."""
    lanes = LANES.current().of(connection, [_limited(run, jobs[run.id]) for run in runs])
    if in_place and len(set(lanes)) == 1:
        limits = len(jobs[runs[0].id].limits)
        if IN_PLACE.current().admit(connection, runs, lanes[0], limits, worker_id):
            return True
    values = {
        "ids": [run.id for run in runs],
        "attempts": [run.attempt for run in runs],
        "lanes": lanes,
        "worker_id": worker_id,
    }
    _tell(connection, fetch(connection, TRANSITIONS["hold_in_lane"], values))
    return False


def _limited(run: Claimed, job: Job) -> Limited:
    fields = _fields(run) if any(limit.key for limit in job.limits) else {}
    return Limited(
        job.id, job.limits, run.queue, run.tenant_id, run.event, run.priority, fields, alone=run.deaths > 0
    )  # fmt: skip


def _fields(run: Claimed) -> dict[str, Any]:
    try:
        payload = decode(run.payload)
    except Exception:  # noqa: BLE001 - what is stored is damaged: the run fails once it is executed
        return {}
    return payload if isinstance(payload, dict) else {}


def _tell(connection: Connection, places: Sequence[Row]) -> None:
    told: dict[int, Told] = {}
    for row in places:
        known = told.get(row["lane"])
        rank = row["rank"] if known is None else min(known.rank, row["rank"])
        told[row["lane"]] = Told(1 if known is None else known.runs + 1, rank)
    if told:
        tell(connection, told)


def _tell_held(connection: Connection, ids: Sequence[str]) -> None:
    rows = fetch(connection, SQL["held_again"], {"ids": uuid_array(ids)})
    if rows:
        tell(connection, {row["lane"]: Told(row["runs"], row["rank"]) for row in rows})
