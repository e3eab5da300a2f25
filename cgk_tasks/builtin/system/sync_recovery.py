"""The job of `system.syncRecovery`: what a synchronisation missed is done again.

Of a schedule it makes a tick now, for the run's tenant. Of an event it repeats the tenant's runs that failed or found
no job since the last success.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import structlog

from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.catalog.system import SystemSyncRecovery
from cgk_tasks.client import retry_job
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import BrokerError, CgkTasksError, JobError, PermanentError, StoreError
from cgk_tasks.events.registry import all_events, find_event
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.schedules.fan_out import fire
from cgk_tasks.schedules.lookup import all_schedules
from cgk_tasks.schedules.schedule import PLATFORM, Schedule
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy.platform import PLATFORM_TENANT, is_platform

SQL = statements("housekeeping")
log = structlog.get_logger("cgk_tasks.recovery")

_DEFAULT_LOOK_BACK: Final = timedelta(days=1)
_MOST_RUNS: Final = 1000
_MOST_LOOKED_AT: Final = 20 * _MOST_RUNS
"""Runs that can never be repeated stay the oldest: those behind them are reached all the same."""
_MOST_REFUSALS_SHOWN: Final = 20


def recover(ctx: JobContext[SystemSyncRecovery]) -> dict[str, Any]:
    """`sync_type` is the name of a schedule or of an event. Safe to repeat: what was repeated once is left alone."""
    name = ctx.payload.sync_type
    schedule = all_schedules().get(name)
    if schedule is not None:
        return _tick(ctx, schedule)
    if find_event(name) is not None:
        return _repeat(ctx, name)
    hint = did_you_mean(name, [*all_schedules(), *(event.event_name for event in all_events())])
    raise PermanentError(f"syncType {name!r} is neither a schedule nor an event.{hint}", "INVALID_INPUT")


def _tick(ctx: JobContext[Any], schedule: Schedule) -> dict[str, Any]:
    if (schedule.scope == PLATFORM) != is_platform(ctx.tenant):
        whose = f"the tenant {PLATFORM_TENANT!r}" if schedule.scope == PLATFORM else "a customer"
        raise PermanentError(f"The schedule {schedule.name!r} works for {whose} only.", "INVALID_INPUT")
    # The run's own time names the tick, so that a second attempt makes no second one.
    tick = fire(schedule, ctx.queued_at or datetime.now(UTC), tenant_id=ctx.tenant_id, by_hand=True)
    return {"runs": tick.runs, "repeated": not tick.is_new}


def _repeat(ctx: JobContext[SystemSyncRecovery], event: str) -> dict[str, Any]:
    since = ctx.payload.last_success_at or datetime.now(UTC) - _DEFAULT_LOOK_BACK
    values = {"tenant_id": ctx.tenant_id, "event": event, "since": since, "limit": _MOST_LOOKED_AT}
    with autocommit() as connection:
        left = [row["id"] for row in fetch(connection, SQL["runs_to_recover"], values)]
    repeated, refused = 0, []
    while left and repeated < _MOST_RUNS:
        run_id = left.pop(0)
        try:
            retry_job(run_id)
        except (StoreError, BrokerError, JobError):
            raise
        except (
            CgkTasksError
        ) as exc:  # this run's fault: its payload no longer fits the event, it was repeated meanwhile
            log.warning("run_not_recovered", run=run_id, code=exc.code)
            refused.append({"run": run_id, "code": exc.code})
        else:
            repeated += 1
    result = {"runs": repeated, "more": bool(left)}
    return {**result, "refused": len(refused), "refusals": refused[:_MOST_REFUSALS_SHOWN]} if refused else result


JOBS: Final = (
    builtin_job(
        "system.syncRecovery", recover, retry=RetryConfig(max_attempts=3, initial_delay=5, max_delay=60), timeout=600
    ),
)
