"""How a job of cgk_tasks' own is defined."""

from __future__ import annotations

from cgk_tasks.jobs.registry import Job
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.jobs.types import Handler


def builtin_job(event: str, handler: Handler, *, retry: RetryConfig, timeout: float) -> Job:
    """The built-in job of an event, with the id `builtin.EVENT`. timeout: soft limit in seconds."""
    return Job(f"builtin.{event}", event, handler, retry=retry, timeout=timeout, is_builtin=True)
