"""The jobs that the catalog knows: what `define_job` and `define_cron_job` take from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

from cgk_tasks.events.catalog import catalog_jobs
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.jobs.types import CallNext, Middleware


@dataclass(frozen=True, slots=True)
class CatalogJob:
    """A job of the catalog, which an application may have or not.

    area: where it belongs. event: what it runs for. retry: its policy. where: values of the payload, in wire form, by
    which it knows its runs where several jobs share the event. schedule: the scheduled task that starts it, by the id
    that an entry of SCHEDULES replaces. timeout: soft limit in seconds, None for the setting's default.
    """

    id: str
    area: str
    event: str
    retry: RetryConfig
    where: Mapping[str, Any] = field(default_factory=dict, hash=False)
    schedule: str | None = None
    timeout: float | None = None

    @property
    def ids(self) -> tuple[str, ...]:
        """By which it can be defined: its own, and that of its scheduled task."""
        return (self.id,) if self.schedule is None else (self.id, self.schedule)


@cache
def known_jobs() -> Mapping[str, CatalogJob]:
    """The jobs of the catalog by id, and by that of their scheduled task. Empty without a catalog."""
    jobs: tuple[CatalogJob, ...] = getattr(catalog_jobs(), "JOBS", ())
    return MappingProxyType({one: job for job in jobs for one in job.ids})


def only_where(job: CatalogJob) -> Middleware:
    """Around a job that shares its event: runs of the other jobs end at once, with a result that says why."""

    def around(ctx: JobContext[Any], call_next: CallNext) -> Any:
        payload = ctx.payload.to_wire()
        others = [f"{name} {payload.get(name)!r}" for name, wanted in job.where.items() if payload.get(name) != wanted]
        return {"skipped": f"{job.id} is not for {', '.join(others)}"} if others else call_next()

    return around
