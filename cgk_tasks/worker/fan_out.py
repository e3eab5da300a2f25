"""An event that has several jobs: its run becomes the parent of one child run a job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from cgk_tasks.config import get_settings
from cgk_tasks.flow.accept import publish
from cgk_tasks.runs import mails, store, tracing
from cgk_tasks.runs.models import DEFAULT_PRIORITY, NewRun, new_run_id
from cgk_tasks.runs.store import Claimed
from cgk_tasks.sql import postgres
from cgk_tasks.workflows.define import Workflow

if TYPE_CHECKING:
    from cgk_tasks.jobs.registry import Job

T = TypeVar("T")


def fan_out(worker_id: str, parent: Claimed, jobs: Sequence[Job], patience_seconds: float) -> None:
    """One child run for each job; the parent closes when the last child has. Nothing happens if the parent is no longer
    this worker's.
    """
    children = _children(parent, jobs)
    workflows = [child.id for child, job in zip(children, jobs, strict=True) if isinstance(job.handler, Workflow)]

    def write() -> bool:
        with postgres.transaction() as connection:
            made = store.fan_out(connection, worker_id, parent, children)
            if made and workflows:
                mails.hand_down(connection, parent.id, workflows)
            return made

    if postgres.retry_while_unavailable(write, patience_seconds):
        publish(children)


def _children(parent: Claimed, jobs: Sequence[Job]) -> list[NewRun]:
    trace = tracing.sent(parent.event, parent.tenant_id, parent.id)
    return [
        NewRun(
            id=new_run_id(), tenant_id=parent.tenant_id, event=parent.event, payload=parent.payload,
            queue=_of_child(parent.queue, get_settings().default_queue, job.queue),
            priority=_of_child(parent.priority, DEFAULT_PRIORITY, job.priority),
            job=job.id, max_attempts=parent.max_attempts,
            parent_id=parent.id, scheduled_for=parent.scheduled_for, trace=trace,
            expires_at=None if job.ttl is None else parent.run_at + timedelta(seconds=job.ttl),
        )
        for job in jobs
    ]  # fmt: skip


def _of_child(parents: T, default: T, jobs: T | None) -> T:
    """A child's queue or priority: its parent's if the sender named it, as far as that can be seen, else its job's."""
    return parents if jobs is None or parents != default else jobs
