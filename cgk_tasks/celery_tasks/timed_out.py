"""Runs that a hard time limit killed: an attempt that failed, recorded by the worker's main process."""

from __future__ import annotations

from celery import Celery

from cgk_tasks.celery_tasks import adapter
from cgk_tasks.celery_tasks.task import TenantTask
from cgk_tasks.errors import JobTimeoutError
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job, find_job, jobs_for
from cgk_tasks.runs import store
from cgk_tasks.sql import postgres
from cgk_tasks.worker.attempt import failure
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.pipeline import count_attempt
from cgk_tasks.worker.records import Records


def record_timed_out(app: Celery, run_ids: list[str], seconds: float) -> None:
    """Fail the attempt of each of these runs that still runs: retried with backoff, or failed for good."""
    records = Records(worker_id())
    with postgres.autocommit() as connection:
        runs = store.running(connection, run_ids, worker_id())
    for run in runs:
        task = app.tasks.get(run.event)
        job = _job(task, run)
        if not isinstance(task, TenantTask) or job is None or run.tenant is None:
            continue
        ctx: JobContext[None] = JobContext(
            job_id=job.id, run_id=run.id, event=run.event, tenant=run.tenant, payload=None,
            attempt=run.attempt - run.deaths,
        )  # fmt: skip
        outcome = failure(
            job, ctx, JobTimeoutError(seconds), max_attempts=run.max_attempts, trying_since=run.trying_since
        )
        outcome = records.record(task, job, run, ctx, outcome)
        count_attempt(run, outcome, seconds)
    records.flush()


def _job(task: object, run: store.Claimed) -> Job | None:
    if isinstance(task, TenantTask) and task.is_adapted:
        return adapter.job_of(task)
    if run.job is not None:
        return find_job(run.job)
    jobs = jobs_for(run.event)
    return jobs[0] if len(jobs) == 1 else None
