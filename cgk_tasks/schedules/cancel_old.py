"""A schedule's open runs, cancelled by its next tick. One tenant's open transaction must not hold up those of all."""

from __future__ import annotations

import structlog
from psycopg import errors as pg_errors

from cgk_tasks.sql.locks import wait_briefly
from cgk_tasks.sql.postgres import Connection, fetch, statements

SQL, TRANSITIONS = statements("schedules"), statements("transitions")
log = structlog.get_logger("cgk_tasks.schedules")


def cancel_old(connection: Connection, schedule: str, tenant_id: str | None) -> None:
    """Cancel the schedule's open runs: at once where no worker holds them, else within a second. After `wait_briefly`
    those of a tenant of which somebody has locked one go on.
    """
    try:
        with connection.transaction():
            _cancel_old(connection, schedule, tenant_id)
    except pg_errors.LockNotAvailable:
        wait_briefly(connection, are_many=True)
        if tenant_id is not None:
            hint = "Somebody's open transaction has locked one of them, or what they have invoked."
            log.warning("old_runs_not_cancelled", schedule=schedule, tenant=tenant_id, hint=hint)
            return
        for row in fetch(connection, SQL["tenants_with_open_runs"], {"schedule": schedule}):
            cancel_old(connection, schedule, row["tenant_id"])
        wait_briefly(connection)


def _cancel_old(connection: Connection, schedule: str, tenant_id: str | None) -> None:
    values = {"schedule": schedule, "tenant_id": tenant_id}
    fetch(connection, TRANSITIONS["lock_schedule_to_cancel"], values)
    fetch(connection, TRANSITIONS["request_cancel_of_schedule"], values)
    fetch(connection, TRANSITIONS["cancel_of_schedule"], values)
