"""What each tenant used: runs, their seconds, waits, failures and refused sends, by hours of UTC.

Nothing is counted while runs run. The leader counts an hour out of the history when it is over, once; what is younger
is read there by whoever asks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, get_args

import psycopg

from cgk_tasks.errors import InvalidOptionError, TenantContextError
from cgk_tasks.logger import get_logger
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import autocommit, execute, explain, fetch, short_transaction, statements
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.visibility import sees_all

SQL = statements("usage")
log = get_logger("cgk_tasks.history")

By = Literal["hour", "day", "month", "total"]
_HOUR: Final = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Usage:
    """What a tenant used in a time. runs: those that closed then, however; failed: of those. run_seconds: how long
    their last attempts ran. queue_seconds: how long they had been due before those began. rejected: sends that were
    refused because of a limit. begin: of the hour, day or month of UTC; None for the whole time that was asked for.
    """

    tenant_id: str
    begin: datetime | None
    runs: int
    failed: int
    run_seconds: float
    queue_seconds: float
    rejected: int


def get_usage(
    tenant: str | None = None, since: datetime | None = None, until: datetime | None = None, *, by: By = "hour"
) -> list[Usage]:
    """What a tenant, or each tenant, used from `since` (the beginning of the month) to `until` (now), the earliest
    first.

    Times are aware datetimes, and taken in whole hours: since is rounded down, until up. by: the length of time of each
    entry. Times without any run or refused send have none. Within a tenant's context its own alone can be asked for.
    Raises InvalidOptionError, UnknownTenantError, TenantContextError, StoreError.

        get_usage("acme", datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), by="day")
    """
    if by not in get_args(By):
        raise InvalidOptionError("by", f'must be "hour", "day", "month" or "total", not {by!r}')
    tenant = _of_whom(tenant)
    try:
        now = database_now().astimezone(UTC)
        begin = now.replace(day=1, hour=0) if since is None else _moment("since", since)
        end = now if until is None else _moment("until", until)
        begin, end = _hour_of(begin), _hour_of(end, up=True)
        if begin >= end:
            raise InvalidOptionError("until", f"must be after since ({begin.isoformat()}).")
        values = {"tenant_id": tenant, "since": begin, "until": end, "by": None if by == "total" else by}
        with autocommit() as connection:
            return [Usage(**row) for row in fetch(connection, SQL["used"], values)]
    except psycopg.Error as exc:
        raise explain(exc) from exc


def count_closed_hours() -> bool:
    """Count hours that are over and that nobody can add a run to any more. Returns whether it did. Raises
    psycopg.Error.
    """
    with short_transaction() as connection:
        rows = fetch(connection, SQL["lock_progress"])
        if not rows or not rows[0]["is_due"]:
            return False
        found = rows[0]
        if found["closing"] is None:
            execute(connection, SQL["begin_closing"])
            return False
        if not found["is_closed"]:
            return False
        execute(connection, SQL["count_closed"], {"begin": found["counted_until"], "end": found["closing"]})
        execute(connection, SQL["end_closing"])
    return True


def count_and_log() -> None:
    """The same; errors are logged. The history of an hour may be long."""
    try:
        count_closed_hours()
    except psycopg.Error as exc:
        log.warning("usage_not_counted", reason=str(exc).strip())
    except Exception:
        log.exception("usage_not_counted")


def note_rejected(tenant_id: str, runs: int) -> None:
    """Count sends that were refused. Raises psycopg.Error."""
    with autocommit() as connection:
        execute(connection, SQL["note_rejected"], {"tenant_id": tenant_id, "runs": runs})


def _of_whom(tenant: str | None) -> str | None:
    here = find_current_tenant()
    if here is None or sees_all():
        return None if tenant is None else registry.require(tenant).id
    if tenant is not None and tenant != here.id:
        raise TenantContextError(
            f"The usage of tenant {tenant!r} was asked for in the context of tenant {here.id!r}.",
            hint="Code that works for several uses platform_context().",
        )
    return here.id


def _moment(option: str, value: Any) -> datetime:
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise InvalidOptionError(
        option, f"must be a datetime with a time zone, not {value!r}", hint="datetime(2026, 11, 1, tzinfo=UTC)"
    )


def _hour_of(moment: datetime, *, up: bool = False) -> datetime:
    hour = moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return hour + _HOUR if up and hour < moment else hour
