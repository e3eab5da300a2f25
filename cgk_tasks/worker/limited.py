"""The runs of a packet that something limits: only those that a pass has admitted are executed.

The others came by another way: their sender did not know of the limits, or a retry is due whose payload says where it
has to wait. They go into their lanes, which costs no attempt, and come back when it is their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cgk_tasks.admission.lanes import Told, tell
from cgk_tasks.admission.limits import LANES, ForLane
from cgk_tasks.admission.switch import SWITCH
from cgk_tasks.flow import lanes
from cgk_tasks.flow.send_rules import key_fields
from cgk_tasks.jobs.registry import Job
from cgk_tasks.runs.models import Place
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql.postgres import Connection, autocommit, execute, fetch, statements, uuid_array

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
        if held:
            _hold(connection, held, limited, worker_id)
    return [run for run in runs if run.id not in not_admitted]


def hold_back(runs: Sequence[Claimed], jobs_of: JobsOf, worker_id: str) -> list[Claimed]:
    """Put those of these runs into their lanes again that are limited. Returns the others. Raises psycopg.Error."""
    limited, others = apart(runs, jobs_of)
    if limited:
        with autocommit() as connection:
            _hold(connection, limited, {run.id: jobs_of(run)[0] for run in limited}, worker_id)
    return others


def apart(runs: Sequence[Claimed], jobs_of: JobsOf) -> tuple[list[Claimed], list[Claimed]]:
    """The runs that are limited, and the others."""
    limited = [run for run in runs if _limited_job(jobs_of(run)) is not None]
    known = {run.id for run in limited}
    return limited, [run for run in runs if run.id not in known]


def schedule_held(run_id: str) -> None:
    """Have a run of a lane dispatched again in a second, which this worker has no job for. Raises psycopg.Error."""
    if SWITCH.current().has_lanes:
        with autocommit() as connection:
            execute(connection, TRANSITIONS["schedule_held"], {"ids": uuid_array([run_id])})


def _limited_job(jobs: Sequence[Job]) -> Job | None:
    """The job of a run that is limited. A run of several jobs becomes the parent of one for each, and those are."""
    return jobs[0] if len(jobs) == 1 and jobs[0].limits else None


def _hold(connection: Connection, runs: Sequence[Claimed], jobs: dict[str, Job], worker_id: str) -> None:
    """Put runs into their lanes."""
    values = {
        "ids": [run.id for run in runs],
        "attempts": [run.attempt for run in runs],
        "lanes": LANES.current().of(connection, [_for_lane(run, jobs[run.id]) for run in runs]),
        "worker_id": worker_id,
    }
    held = fetch(connection, TRANSITIONS["hold_in_lane"], values)
    lanes.tell([Place(row["lane"], row["rank"]) for row in held])


def _for_lane(run: Claimed, job: Job) -> ForLane:
    fields = _fields(run) if any(limit.key for limit in job.limits) else {}
    return ForLane(
        run.queue, run.tenant_id, run.event, run.priority, run.deaths > 0, job.id, job.limits, fields
    )  # fmt: skip


def _fields(run: Claimed) -> Mapping[str, Any]:
    try:
        return key_fields(run.payload)
    except Exception:  # noqa: BLE001 - what is stored is damaged: the run fails once it is executed
        return {}


def _tell_held(connection: Connection, ids: Sequence[str]) -> None:
    rows = fetch(connection, SQL["held_again"], {"ids": uuid_array(ids)})
    if rows:
        tell(connection, {row["lane"]: Told(row["runs"], row["rank"]) for row in rows})
