"""Which jobs of the catalog an application has, and where its definitions differ from the catalog's."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final, Literal

from cgk_tasks.config import get_settings
from cgk_tasks.jobs.catalog_jobs import CatalogJob, known_jobs
from cgk_tasks.jobs.registry import Job, all_jobs, find_job, jobs_for
from cgk_tasks.schedules.lookup import schedule_replacing
from cgk_tasks.schedules.schedule import Schedule

State = Literal["defined", "covered", "missing"]

_ALMOST_THE_SAME: Final = 0.92
"""How like two ids must be for one to be a misspelling; ids of jobs that belong together are less alike."""


@dataclass(frozen=True)
class Coverage:
    """An id of the catalog in this process. state: a job has the id (`defined`), a job with another id does its work
    (`covered`), or none does (`missing`). jobs: the ids of those that do it.
    """

    id: str
    job: CatalogJob
    entry: Schedule | None
    state: State
    jobs: tuple[str, ...]


@dataclass(frozen=True)
class Override:
    """What a job of the application has in place of the catalog's."""

    id: str
    what: str
    catalog: Any
    here: Any


def coverage() -> list[Coverage]:
    """Every id of the catalog, in the order of its table; each job is followed by its scheduled task."""
    events = Counter(job.event for job in set(known_jobs().values()))
    return [_covered(job_id, job, is_alone=events[job.event] == 1) for job_id, job in known_jobs().items()]


def _covered(job_id: str, job: CatalogJob, *, is_alone: bool) -> Coverage:
    entry = schedule_replacing(job.schedule) if job.schedule else None
    if find_job(job_id) is not None:
        return Coverage(job_id, job, entry, "defined", (job_id,))
    others = tuple(one for one in job.ids if find_job(one) is not None)
    if not others:
        others = tuple(one.id for one in jobs_for(job.event) if is_alone or one.is_builtin)
    return Coverage(job_id, job, entry, "covered" if others else "missing", others)


def overrides() -> list[Override]:
    """Where the application's jobs differ from the catalog's event, policy and time limit."""
    found = ((known, find_job(job_id)) for job_id, known in known_jobs().items())
    return [one for known, job in found if job is not None for one in _overrides(known, job)]


def _overrides(known: CatalogJob, job: Job) -> list[Override]:
    compared = (
        ("event", known.event, job.event),
        ("retry", policy_text(known), policy_text(job)),
        ("time limit", time_limit(known), time_limit(job)),
    )
    return [Override(job.id, what, theirs, ours) for what, theirs, ours in compared if theirs != ours]


def policy_text(job: CatalogJob | Job) -> str:
    """`3 attempts, 2 s to 30 s`: how often a job is tried, and how long it waits in between."""
    retry = job.retry
    if retry.max_attempts == 1:
        return "1 attempt"
    waits = f"{retry.initial_delay:g} s"
    if retry.backoff != "fixed" and retry.max_delay > retry.initial_delay:
        growth = "" if retry.backoff == "exponential" and retry.factor == 2 else f", {_growth(job)}"
        waits += f" to {retry.max_delay:g} s{growth}"
    return f"{retry.max_attempts} attempts, {waits}"


def _growth(job: CatalogJob | Job) -> str:
    return "linear" if job.retry.backoff == "linear" else f"factor {job.retry.factor:g}"


def time_limit(job: CatalogJob | Job) -> float:
    """In seconds."""
    return get_settings().default_timeout_seconds if job.timeout is None else job.timeout


def misspelt(missing: list[Coverage]) -> dict[str, str]:
    """Jobs of the application that have almost the id of one that is missing, each with that."""
    wanted = [one.id for one in missing]
    ours = [job.id for job in all_jobs() if not job.is_builtin and job.id not in known_jobs()]
    near = {job_id: get_close_matches(job_id, wanted, n=1, cutoff=_ALMOST_THE_SAME) for job_id in ours}
    return {job_id: found[0] for job_id, found in near.items() if found}
