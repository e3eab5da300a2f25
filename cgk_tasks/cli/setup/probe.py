"""An event and a job to try a worker with, where the application has not those of the starter module."""

from __future__ import annotations

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import define_job


class SetupTried(TenantEvent, event="setup.tried", category="setup"):
    """Sent by `cgk-tasks setup jobs` to its own worker."""


@define_job("setup-tried", event=SetupTried)
def setup_tried(ctx: JobContext[SetupTried]) -> str:
    return f"A worker ran this for the tenant {ctx.tenant_id}."
