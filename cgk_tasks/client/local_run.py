"""A run as the local provider has it, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import Job, jobs_for
from cgk_tasks.jobs.types import Handler
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.invoked import end_of
from cgk_tasks.runs.models import NewRun, RunStatus, State, new_run_id
from cgk_tasks.runs.report import RunReport
from cgk_tasks.runs.undo import Undo
from cgk_tasks.worker.outcome import Outcome
from cgk_tasks.workflows.job_steps import JobSteps
from cgk_tasks.workflows.memory import MemoryRecord

if TYPE_CHECKING:
    from cgk_tasks.tenancy.database import TenantSession
    from cgk_tasks.tenancy.models import Tenant


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
    report: RunReport | None = None

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

    def again(self, payload: str | None = None) -> NewRun:
        """A replay of it; or with another payload, what it continues as."""
        status = self.status
        return NewRun(
            id=new_run_id(), tenant_id=status.tenant_id, event=status.event, payload=payload or self.payload,
            queue=status.queue, priority=status.priority, max_attempts=status.max_attempts,
            replay_of=None if payload else status.id, scheduled_for=None if payload else status.scheduled_for,
        )  # fmt: skip

    def child(self, job: Job) -> NewRun:
        """One of the runs of an event with several jobs."""
        status = self.status
        return NewRun(
            id=new_run_id(), tenant_id=status.tenant_id, event=status.event, payload=self.payload, queue=status.queue,
            priority=status.priority, job=job.id, max_attempts=status.max_attempts, parent_id=status.id,
            scheduled_for=status.scheduled_for,
            expires_at=None if job.ttl is None or status.run_at is None else status.run_at + timedelta(seconds=job.ttl),
        )  # fmt: skip

    def context(self, job: Job, payloads: Sequence[Any], tenant: Tenant, *, has_database: bool) -> JobContext[Any]:
        """What an attempt of the job is given. payloads: one, or those of a Batch."""
        status = self.status
        return JobContext(
            job_id=job.id, run_id=status.id, event=status.event, tenant=tenant, payload=payloads[0],
            batch=payloads if len(payloads) > 1 else (),
            attempt=status.attempt, max_attempts=status.max_attempts or job.retry.max_attempts,
            queued_at=status.created_at, started_at=status.started_at, scheduled_for=status.scheduled_for,
            has_database=has_database, cursor=self.cursor, save_cursor=self.save_cursor, step_record=self.steps,
            begin_steps=JobSteps, begin_report=self._begin_report,
        )  # fmt: skip

    def _begin_report(self) -> RunReport:
        """What the run tells of itself, in all its attempts."""
        self.report = self.report or RunReport()
        return self.report

    def as_told(self) -> RunStatus:
        """Its status, with that."""
        if self.report is None:
            return self.status
        return replace(self.status, progress=self.report.progress, metadata=dict(self.report))

    def note_end(self, outcome: Outcome) -> None:
        """Keep the error of an attempt; one that was put off is not used."""
        attempt = self.status.attempt - (outcome.kind == "snooze")
        errors = [decode(outcome.error)] if outcome.error else []
        self.status = replace(self.status, attempt=attempt, errors=[*self.status.errors, *errors])

    def begin_undo(self, outcome: Outcome) -> bool:
        """Let the run undo what it has done, if it would end with this and there is such a thing."""
        is_failed, is_cancelled = outcome.kind == "failed", self.status.cancel_requested_at is not None
        is_over = not self.steps.is_undone if is_failed else is_cancelled or outcome.kind == "cancelled"
        if not self.steps.compensates or not is_over or outcome.kind == "completed":
            return False
        self.steps.undo(Undo("failed", outcome.error, outcome.error_code) if is_failed else Undo("cancelled"))
        return True

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


class LocalHandlers:
    """Handlers that were registered with the provider itself, beside the jobs of this process."""

    def __init__(self) -> None:
        self._jobs: dict[str, list[Job]] = {}

    def add(self, event: str, handler: Handler) -> None:
        job = Job(id=f"{event}:{getattr(handler, '__qualname__', 'handler')}", event=event, handler=handler)
        self._jobs.setdefault(event, []).append(job)

    def jobs_for(self, event: str) -> list[Job]:
        own = self._jobs.get(event, ())
        return [*(job for job in jobs_for(event) if not (own and job.is_builtin)), *own]


def end_of_child(status: RunStatus) -> str:
    """What the workflow that has invoked a run is told of its end."""
    return end_of(status.state, encode(status.result), status.error_code, status.error)
