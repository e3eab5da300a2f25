"""The test worker's jobs, and one that takes alerts."""

from cgk_tasks import JobContext, RetryConfig, define_job
from cgk_tasks.events import SystemAlert
from tests.support.jobs import Behave, behave

__all__ = ["Behave", "behave"]


@define_job("take-alert", event=SystemAlert, retry=RetryConfig(max_attempts=1))
def take_alert(ctx: JobContext[SystemAlert]) -> None:
    if "fail-alerts" in ctx.payload.message:
        raise ValueError("an alert that fails")
