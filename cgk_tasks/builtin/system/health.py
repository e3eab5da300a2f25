"""The job of `system.healthCheck`: looks at the platform's parts, and sends an alert about those that are not well."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import redis
import sqlalchemy as sa
import structlog
from kombu.exceptions import KombuError

from cgk_tasks.broker.publisher import get_patient_publisher
from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.builtin.library_errors import LIBRARY_ERRORS
from cgk_tasks.catalog.system import SystemAlert, SystemHealthCheck
from cgk_tasks.client import send_job
from cgk_tasks.config import get_settings
from cgk_tasks.errors import CgkTasksError, JobTimeoutError, RunCancelledError
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.registry import jobs_for
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.schedules.failing_entries import failing_entries
from cgk_tasks.schedules.health import late_schedules
from cgk_tasks.sql.postgres import autocommit, fetch, fetch_or_before, statements
from cgk_tasks.worker.dispatcher import LEASE

SQL = statements("housekeeping")
log = structlog.get_logger("cgk_tasks.health")

LONGEST_WAIT_SECONDS: Final = 300.0
"""A due run that waits longer shows that the queues are not served."""

Check = Callable[[], str | None]
"""Returns what is wrong, or None."""


def _database() -> str | None:
    with autocommit() as connection:
        fetch(connection, statements("doctor")["now"])
    return None


def _broker() -> str | None:
    get_patient_publisher().ping()
    return None


def _workers() -> str | None:
    with autocommit() as connection:
        values = {"timeout": get_settings().worker_timeout_seconds}
        alive = fetch(connection, SQL["workers_alive"], values)[0]["alive"]
    return None if alive else "no worker is alive"


def _dispatcher() -> str | None:
    with autocommit() as connection:
        leases = fetch(connection, statements("doctor")["lease"], {"name": LEASE})
    return None if leases and leases[0]["held"] else "no worker leads: delayed runs and retries wait"


def _queues() -> str | None:
    with autocommit() as connection:
        rows = fetch_or_before(connection, SQL["oldest_waiting"], SQL["oldest_waiting_before_lanes"])
    if rows and rows[0]["seconds"] > LONGEST_WAIT_SECONDS:
        return f"a run has waited {rows[0]['seconds']:.0f} s in the queue {rows[0]['queue']}"
    return None


def _schedules() -> str | None:
    late = late_schedules()
    if late:
        return f"late: {', '.join(one.name for one in late)}"
    failing = failing_entries()
    return f"not sent: {', '.join(one.name for one in failing)}" if failing else None


CRITICAL: Final[Mapping[str, Check]] = {"database": _database, "broker": _broker}
FULL: Final[Mapping[str, Check]] = {
    **CRITICAL, "workers": _workers, "dispatcher": _dispatcher, "queues": _queues, "schedules": _schedules,
}  # fmt: skip


def check_health(ctx: JobContext[SystemHealthCheck]) -> dict[str, Any]:
    """Every check with its time, and whether all is well. The run itself completes in either case."""
    checks = CRITICAL if ctx.payload.check_type == "critical" else FULL
    results = {name: _examine(check) for name, check in checks.items()}
    unwell = [name for name, result in results.items() if not result["healthy"]]
    if unwell:
        log.error("unhealthy", checks=unwell)
        if jobs_for("system.alert"):
            _alert(ctx, unwell)
    return {"healthy": not unwell, "checks": results}


def _examine(check: Check) -> dict[str, Any]:
    begun = time.monotonic()
    try:
        problem = check()
    except (JobTimeoutError, RunCancelledError):  # of this run, not of what it looks at
        raise
    except (CgkTasksError, psycopg.Error, sa.exc.SQLAlchemyError, OSError) as exc:
        problem = f"{type(exc).__name__}: {exc}"
    except (redis.RedisError, KombuError, *LIBRARY_ERRORS) as exc:
        problem = type(exc).__name__  # without its text: of a setting that cannot be read it may quote a password
    return {"healthy": problem is None, "seconds": round(time.monotonic() - begun, 4), "problem": problem}


def _alert(ctx: JobContext[SystemHealthCheck], unwell: list[str]) -> None:
    """Once an hour for the same parts: the check runs every minute."""
    names = ", ".join(unwell)
    alert = SystemAlert(
        tenant_id=ctx.tenant_id,
        severity="critical",
        title=f"Not well: {names}",
        message=f"The health check found {names} not well. For more, run: cgk-tasks doctor",
    )
    send_job(alert, idempotency_key=f"health:{names}:{datetime.now(UTC):%Y-%m-%dT%H}", priority=9)


JOBS: Final = (builtin_job("system.healthCheck", check_health, retry=RetryConfig(max_attempts=1), timeout=30),)
