"""A run as the local provider has it, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Self

from cgk_tasks.jobs.registry import Job
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.invoked import end_of
from cgk_tasks.runs.models import NewRun, RunStatus, State, new_run_id
from cgk_tasks.workflows.memory import MemoryRecord

if TYPE_CHECKING:
    from cgk_tasks.tenancy.database import TenantSession


@dataclass(eq=False)
class LocalRun:
    """Its status is replaced as a whole at every change. children: those of an event with several jobs. invoked: those
    of its workflow.
    """

    status: RunStatus
    payload: str
    job: Job | None
    children: list[LocalRun] = field(default_factory=list)
    invoked: list[LocalRun] = field(default_factory=list)
    cursor: Any = None
    steps: MemoryRecord = field(default_factory=MemoryRecord)

    @classmethod
    def of(cls, new: NewRun, job: Job | None, now: datetime, steps: MemoryRecord) -> Self:
        """A run that is accepted now."""
        status = RunStatus(
            id=new.id, tenant_id=new.tenant_id, event=new.event, state=new.state, job=job.id if job else new.job,
            max_attempts=new.max_attempts, queue=new.queue, priority=new.priority, payload=decode(new.payload),
            run_at=new.run_at or now, expires_at=new.expires_at, created_at=now, parent_id=new.parent_id,
            replay_of=new.replay_of, idempotency_key=new.idempotency_key, scheduled_for=new.scheduled_for,
        )  # fmt: skip
        return cls(status, new.payload, job, steps=steps)

    def again(self) -> NewRun:
        """A replay of it."""
        status = self.status
        return NewRun(
            id=new_run_id(), tenant_id=status.tenant_id, event=status.event, payload=self.payload,
            queue=status.queue, priority=status.priority, max_attempts=status.max_attempts, replay_of=status.id,
            scheduled_for=status.scheduled_for,
        )  # fmt: skip

    def child(self, job: Job) -> NewRun:
        """One of the runs of an event with several jobs."""
        status = self.status
        return NewRun(
            id=new_run_id(), tenant_id=status.tenant_id, event=status.event, payload=self.payload, queue=status.queue,
            priority=status.priority, job=job.id, max_attempts=status.max_attempts, parent_id=status.id,
            scheduled_for=status.scheduled_for,
        )  # fmt: skip

    @property
    def is_waiting(self) -> bool:
        return self.status.state in {"scheduled", "pending", "retrying"}

    @property
    def has_open_children(self) -> bool:
        return any(not child.status.is_closed for child in self.children)

    @property
    def trying_since(self) -> datetime | None:
        """What `RetryConfig.max_elapsed` counts from: the first failure."""
        errors = self.status.errors
        return datetime.fromisoformat(errors[0]["at"]) if errors else self.status.started_at

    def save_cursor(self, cursor: Any, session: TenantSession | None) -> None:
        """Keep how far a run came, and commit what it wrote until there."""
        if session is not None:
            session.commit()
        self.cursor = decode(encode(cursor))

    def end_of_children(self) -> tuple[State, str | None, Any]:
        """How an event with several jobs ends when all of them have: its state, error code and results."""
        children = [child.status for child in self.children]
        results = {child.job or "": child.result for child in children}
        if all(child.state == "completed" for child in children):
            return "completed", None, results
        state: State = "failed" if any(child.state == "failed" for child in children) else "cancelled"
        code = max((child.error_code for child in children if child.error_code), default="CHILD_NOT_COMPLETED")
        return state, code, results


def end_of_child(status: RunStatus) -> str:
    """What the workflow that has invoked a run is told of its end."""
    return end_of(status.state, encode(status.result), status.error_code, status.error)
