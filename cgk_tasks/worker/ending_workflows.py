"""Workflows that fail: what they have invoked and nobody waits for any more is cancelled with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import psycopg

from cgk_tasks.flow.accept import UnitOfWork, unit_of_work
from cgk_tasks.jobs.registry import find_job
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ends import Closed, Closing
from cgk_tasks.sql import postgres
from cgk_tasks.workflows.define import Workflow


def is_workflow(job_id: str | None) -> bool:
    job = find_job(job_id) if job_id is not None else None
    return job is not None and isinstance(job.handler, Workflow)


def close_with_children(
    worker_id: str, closing: Closing, follow: Callable[[Sequence[Closed]], None], patience: float
) -> None:
    """Close a run, and cancel its child runs that are open, all or nothing; nothing if the attempt does not own the run
    any more. follow: what follows from the closed runs, in the same transaction.
    """

    def write() -> UnitOfWork | None:
        with postgres.transaction() as connection, unit_of_work(connection) as unit:
            children = store.cancel_children(connection, [closing.id])
            closed = ends.finish(connection, worker_id, [closing])
            if not closed:
                raise psycopg.Rollback
            follow([*children, *closed])
            return unit
        return None

    unit = postgres.retry_while_unavailable(lambda: postgres.retry_conflicts(write), patience)
    if unit is not None:
        unit.publish()
