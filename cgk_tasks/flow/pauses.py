"""Pauses: nothing of a queue, a tenant or a job starts, or of what is all of those that are named.

A pause is a row, whatever waits. What is sent is accepted, and waits in lanes that no pass lets go; what runs goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import psycopg

from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.events.registry import find_event
from cgk_tasks.flow.changes import Change, changing
from cgk_tasks.flow.job_limits import known_jobs
from cgk_tasks.flow.new_run import queue_name
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, explain, fetch, statements
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL = statements("pauses")

Mode = Literal["hold", "drop"]
_ENDED: Final = "its time was over"


@dataclass(frozen=True, slots=True)
class Pause:
    """What is paused: the runs that have each of queue, tenant and event that is not None. mode: `hold`, or `drop`.
    until: when it ends by itself; None for never.
    """

    queue: str | None
    tenant_id: str | None
    event: str | None
    mode: Mode
    until: datetime | None
    paused_at: datetime
    paused_by: str
    reason: str

    @property
    def subject(self) -> str:
        """What is paused, in words."""
        return _subject(self.queue, self.tenant_id, self.event)


def pause(
    queue: str | None = None,
    *,
    tenant: str | None = None,
    job: str | None = None,
    mode: Mode = "hold",
    until: datetime | None = None,
    by: str = "",
    reason: str = "",
) -> Pause:
    """Let nothing start of a queue, a tenant, a job, or of what is all of those that are given.

    job: by its id, or by the name of its event. mode: `hold` lets what is sent wait until the pause ends; `drop`
    cancels what waits, with the code PAUSED. until: when it ends by itself; None for when somebody resumes it. What
    runs goes on. Counts within CGK_RULES_REFRESH_SECONDS; of a queue as a whole at once. Given again, mode, until and
    reason are those of the last time. Raises InvalidOptionError, UnknownTenantError, StoreError.

        pause(job="sync-orders", tenant="acme", by="ada", reason="their interface is down")
    """
    wanted = _what(queue, tenant, job)
    if mode not in get_args(Mode):
        raise InvalidOptionError("mode", f'must be "hold" or "drop", not {mode!r}')
    _check_until(until)
    new = {"mode": mode, "until": _shown(until), "reason": reason}
    with changing() as (connection, _version):
        is_whole_queue = _is_whole_queue(wanted) and mode == "hold"
        old = _remove_other(connection, wanted, is_whole_queue=is_whole_queue)
        values = wanted | {"mode": mode, "until": until, "by": by, "reason": reason}
        old = _first(connection, "get_queue_pause" if is_whole_queue else "get_pause", wanted) or old
        execute(connection, SQL["put_queue_pause" if is_whole_queue else "put_pause"], values)
        change = Change(by, reason)
        change.note(connection, "pause", _subject(**wanted), _noted(old), new, wanted["tenant_id"])
    return next(one for one in list_pauses() if {name: getattr(one, name) for name in wanted} == wanted)


def pause_tenant(connection: Connection, tenant_id: str, until: datetime | None, change: Change) -> None:
    """Hold all runs of a tenant, in the transaction of a change; what was paused by then stays as it is."""
    wanted = {"queue": None, "tenant_id": tenant_id, "event": None}
    if _first(connection, "get_pause", wanted) is not None:
        return
    values = wanted | {"mode": "hold", "until": until, "by": change.by, "reason": change.reason}
    execute(connection, SQL["put_pause"], values)
    new = {"mode": "hold", "until": _shown(until), "reason": change.reason}
    change.note(connection, "pause", _subject(**wanted), {}, new, tenant_id)


def resume(
    queue: str | None = None, *, tenant: str | None = None, job: str | None = None, by: str = "", reason: str = ""
) -> bool:
    """End the pause of exactly these. What waits goes on within seconds, but for what another pause holds. Returns
    whether there was one. Raises InvalidOptionError, StoreError.
    """
    wanted = _what(queue, tenant, job, is_there=False)
    with changing() as (connection, _version):
        old = _first(connection, "remove_pause", wanted)
        if _is_whole_queue(wanted):
            old = _first(connection, "remove_queue_pause", wanted) or old
        if old is not None:
            change = Change(by, reason)
            change.note(connection, "resume", _subject(**wanted), _noted(old), {}, wanted["tenant_id"])
    return old is not None


def list_pauses() -> list[Pause]:
    """What is paused. Suspended tenants are listed with the tenants.

    Raises StoreError, and TenantContextError inside a tenant's context.
    """
    refuse_in_context("What is paused")
    try:
        with autocommit() as connection:
            return [Pause(**row) for row in fetch(connection, SQL["list_pauses"])]
    except psycopg.Error as exc:
        raise explain(exc) from exc


def end_pauses() -> int:
    """End those whose time is over. Returns how many. Raises psycopg.Error, StoreError."""
    with autocommit() as connection:
        if not fetch(connection, SQL["are_over"])[0]["yes"]:
            return 0
    with changing() as (connection, _version):
        ended = fetch(connection, SQL["end_pauses"])
        for row in ended:
            subject = _subject(row["queue"], row["tenant_id"], row["event"])
            Change(reason=_ENDED).note(connection, "resume", subject, _noted(row), {}, row["tenant_id"])
    return len(ended)


def _what(queue: object, tenant: str | None, job: str | None, *, is_there: bool = True) -> dict[str, Any]:
    if queue is None and tenant is None and job is None:
        raise InvalidOptionError("queue", "is not given, nor are tenant and job.", hint="Give one of them, or several.")
    if tenant is not None and is_there:
        registry.require(tenant)
    event = None if job is None else _event_of(job, is_there=is_there)
    return {"queue": None if queue is None else queue_name(str(queue)), "tenant_id": tenant, "event": event}


def _event_of(job: str, *, is_there: bool) -> str:
    """The event of a job, or the event itself. Lanes know events alone, so a job is paused that has one of its own."""
    pairs = known_jobs()
    events = {event for event, name in pairs if name == job}
    if not events:
        names = {name for pair in pairs for name in pair}
        if not is_there or job in names or find_event(job) is not None:
            return job
        raise InvalidOptionError(
            "job",
            f"is {job!r}, and neither this process nor a worker has such a job or event.{did_you_mean(job, names)}",
            hint="Name its module in CGK_JOB_MODULES, or start a worker that has it.",
        )
    event = min(events)
    others = sorted({name for its, name in pairs if its == event} - {job})
    if others and job != event and is_there:
        raise InvalidOptionError(
            "job",
            f"is {job!r}, whose event {event} has other jobs too: {', '.join(others)}.",
            hint=f"To pause all of them: job={event!r}",
        )
    return event


def _check_until(until: object) -> None:
    if until is None:
        return
    if not isinstance(until, datetime) or until.tzinfo is None:
        raise InvalidOptionError(
            "until",
            f"must be a datetime with a time zone, not {until!r}",
            hint="datetime.now(UTC) + timedelta(hours=2)",
        )
    if until <= database_now():
        raise InvalidOptionError(
            "until", f"is {until.isoformat()}, which is past.", hint="Give a time to come, or leave it out."
        )


def _is_whole_queue(wanted: Mapping[str, Any]) -> bool:
    return wanted["tenant_id"] is None and wanted["event"] is None


def _remove_other(connection: Connection, wanted: Mapping[str, Any], *, is_whole_queue: bool) -> Row | None:
    """A queue as a whole is held in one table and dropped in another: take it out of the one where it is not to be."""
    if is_whole_queue:
        return _first(connection, "remove_pause", wanted)
    return _first(connection, "remove_queue_pause", wanted) if _is_whole_queue(wanted) else None


def _first(connection: Connection, statement: str, values: Mapping[str, Any]) -> Row | None:
    return next(iter(fetch(connection, SQL[statement], values)), None)


def _noted(row: Row | None) -> dict[str, Any]:
    return {} if row is None else {"mode": row["mode"], "until": _shown(row["until"]), "reason": row["reason"]}


def _shown(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def _subject(queue: str | None, tenant_id: str | None, event: str | None) -> str:
    named = {"queue": queue, "tenant": tenant_id, "event": event}
    return ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
