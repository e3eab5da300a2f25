"""A run that its hard time limit killed: an attempt that failed, recorded by the worker's main process."""

from __future__ import annotations

from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import Celery

from cgk_tasks.celery_tasks import canvas
from cgk_tasks.celery_tasks.adapter import adapter_of
from cgk_tasks.celery_tasks.task import TenantTask
from cgk_tasks.errors import RetryLater
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.runs import store
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql import postgres
from cgk_tasks.worker.attempt import Attempt
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.worker.pipeline import count_attempt
from cgk_tasks.worker.recorder import Recorder
from cgk_tasks.worker.steps import RunSteps


def record_timed_out(app: Celery[Any], run_id: str, seconds: float) -> None:
    """Fail the attempt of this run with TimeLimitExceeded, if it still runs: retried with backoff, or failed for good,
    which its task and the receivers of signals are told of. Raises psycopg's LockNotAvailable at once where somebody
    has the run locked.
    """
    recorder = Recorder(worker_id(), canvas.CanvasFollow(app))
    with postgres.autocommit() as connection:
        store.require_unlocked(connection, run_id)
        runs = store.running(connection, [run_id], worker_id())
    for run in runs:
        attempt = _attempt(app.tasks.get(run.event), run, recorder)
        if attempt is not None:
            outcome = recorder.record(run, attempt, attempt.failed(TimeLimitExceeded(seconds)))
            recorder.flush()
            count_attempt(run, outcome, seconds)
            if outcome.kind == "failed":
                canvas.announce_failed(app, run, outcome.exception)


def _steps_of(run: Claimed) -> RunSteps | None:
    """So that it is known whether the run has something to undo. None where there are no tables of steps yet."""
    record = RunSteps(run)
    try:
        record.load()
    except RetryLater:
        return None
    return record


def _attempt(task: object, run: Claimed, recorder: Recorder) -> Attempt | None:
    """The attempt that was killed; None for a parent of several runs, and where nobody knows its job."""
    jobs = adapter_of(task).jobs(run) if isinstance(task, TenantTask) else ()
    if len(jobs) != 1 or run.tenant is None:
        return None
    ctx: JobContext[None] = JobContext(
        job_id=jobs[0].id, run_id=run.id, event=run.event, tenant=run.tenant, payload=None,
        attempt=run.attempt - run.deaths, step_record=_steps_of(run),
    )  # fmt: skip
    return Attempt(jobs[0], ctx, recorder.end_of(run), run.max_attempts, run.trying_since)
