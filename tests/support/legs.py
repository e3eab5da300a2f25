"""Workflows in memory, leg by leg, by a clock that the test moves."""

from datetime import UTC, datetime, timedelta

from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import find_job
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.worker.attempt import Attempt, Outcome, run_attempt
from cgk_tasks.workflows.memory import MemoryRecord

ACME = Tenant("acme", "active", "search_path", "tenant_acme")


class Legs:
    """One run of a workflow. outcomes: how its legs ended. now: moved to when the run is due."""

    def __init__(self, workflow_id, payload=None):
        self.job, self.payload = find_job(workflow_id), payload
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.record = MemoryRecord(lambda: self.now)
        self.run_id = new_run_id()
        self.outcomes: list[Outcome] = []

    def leg(self):
        """One leg, from the top. What it leaves is on record."""
        ctx = JobContext(
            job_id=self.job.id, run_id=self.run_id, event=self.job.event, tenant=ACME, payload=self.payload,
            step_record=self.record, has_database=False,
        )  # fmt: skip
        outcome = run_attempt(Attempt(self.job, ctx, lambda _, outcome: outcome))
        self.outcomes.append(outcome)
        if outcome.suspension is not None:
            self.due = self.record.suspend(outcome.suspension)
        elif outcome.kind == "retry":
            self.record.note_failure()
            self.due = self.now + timedelta(seconds=outcome.delay_seconds)
        return outcome

    def run(self, most=50):
        """All legs until the run ends, each at the time when it is due."""
        for _ in range(most):
            outcome = self.leg()
            if outcome.kind in {"completed", "failed", "cancelled"}:
                return outcome
            if outcome.kind != "interrupted":
                self.now = max(self.now, self.due)
        raise AssertionError(f"still open after {most} legs: {self.kinds}")

    @property
    def kinds(self):
        return [outcome.kind for outcome in self.outcomes]

    @property
    def steps(self):
        """Name and state of each step, in order."""
        return [(memo.name, memo.state) for memo in self.record.load() if memo.kind != "begin"]
