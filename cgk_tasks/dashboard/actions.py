"""What the buttons do: each checks, writes into the audit, and calls the function that the command line calls too."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from cgk_tasks.client import JobClient, create_job_client
from cgk_tasks.dashboard.audit import recorded
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import InvalidOptionError, PayloadInvalidError, TenantContextError
from cgk_tasks.events.redaction import REDACTED, Redaction
from cgk_tasks.events.registry import find_event, parse_event_json
from cgk_tasks.flow import quarantine, queues, workers
from cgk_tasks.flow.replay import closed_run, replay
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.models import RunHandle
from cgk_tasks.runs.shown_steps import steps_of
from cgk_tasks.schedules import tenant_schedules
from cgk_tasks.schedules.fan_out import Tick, fire
from cgk_tasks.schedules.lookup import find_schedule
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import registry, suspending


def _client() -> JobClient:
    return create_job_client("celery")


def _tenant_of(run_id: str) -> str:
    return _client().get_run_status(run_id).tenant_id


def retry(user: User, run_id: str) -> RunHandle:
    """Run a closed run again, as a new run. Raises UnknownRunError, RunStateError."""
    with recorded(user, "retry run", subject=run_id, tenant_id=_tenant_of(run_id)) as entry:
        handle = _client().retry(run_id)
        entry.affected, entry.message = 1, f"new run {handle.id}"
        return handle


def cancel(user: User, run_id: str) -> None:
    """Cancel an open run. Raises UnknownRunError, RunStateError."""
    with recorded(user, "cancel run", subject=run_id, tenant_id=_tenant_of(run_id)) as entry:
        _client().cancel(run_id)
        entry.affected = 1


def replay_edited(user: User, run_id: str, text: str) -> RunHandle:
    """Run a closed run again with another payload, given as JSON text. The event's model checks it.

    A field that says `[redacted]` keeps the value that it had. Raises PayloadInvalidError, TenantContextError for
    another tenant's payload, UnknownRunError, RunStateError.
    """
    with recorded(user, "replay run with another payload", subject=run_id, tenant_id=_tenant_of(run_id)) as entry:
        row = closed_run(run_id, "replay")
        before = decode(row["payload"])
        given = _merged(row["event"], before, text)
        entry.hide = Redaction(row["event"], given).text
        payload, changed = _checked(row["event"], row["tenant_id"], before, given)
        handle = replay(run_id, payload)
        entry.affected, entry.message = 1, f"new run {handle.id}, changed: {', '.join(changed) or 'nothing'}"
        return handle


def _merged(event: str, before: Mapping[str, Any], text: str) -> dict[str, Any]:
    """The payload that was given, with what is hidden in it as it was before."""
    if isinstance(before, list):
        raise PayloadInvalidError(event, ["it is several events, of a job with a Batch: replay the run as it is"])
    try:
        given = json.loads(text)
    except ValueError as exc:
        raise PayloadInvalidError(event, [f"it is not JSON: {exc}"]) from None
    if not isinstance(given, dict):
        raise PayloadInvalidError(event, ["it must be an object with named fields"])
    return {name: before.get(name) if value == REDACTED else value for name, value in given.items()}


def _checked(event: str, tenant_id: str, before: Mapping[str, Any], merged: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The payload as JSON text, and the names of the fields that are not as before."""
    changed = sorted(name for name in {*merged, *before} if merged.get(name) != before.get(name))
    if find_event(event) is None:
        # A plain Celery task: its arguments, which only the task itself can judge.
        if (
            set(merged) != {"args", "kwargs"}
            or not isinstance(merged["args"], list)
            or not isinstance(merged["kwargs"], dict)
        ):
            raise PayloadInvalidError(event, ['it must be {"args": [...], "kwargs": {...}}'])
        return encode(merged), changed
    model = parse_event_json(event, json.dumps(merged))
    if model.tenant_id != tenant_id:
        raise TenantContextError(
            f"The payload names tenant {model.tenant_id!r}, but the run is one of {tenant_id!r}. "
            "A replay stays with its tenant; send the other one a run of its own."
        )
    return model.to_json().decode(), changed


def signal(user: User, run_id: str, name: str, text: str) -> None:
    """Send a signal to an open run, with what is given as JSON text; the audit has its name alone.

    Raises InvalidOptionError for what is not JSON, ConfigurationError for what is no name, UnknownRunError,
    RunStateError.
    """
    with recorded(user, "signal run", subject=run_id, tenant_id=_tenant_of(run_id)) as entry:
        entry.hide = _hide(run_id)
        try:
            payload = json.loads(text or "null")
        except ValueError as exc:
            raise InvalidOptionError("payload", f"is not JSON: {exc}") from None
        _client().signal(run_id, name, payload)
        entry.affected, entry.message = 1, entry.hide(f"signal {name}")


def replay_from(user: User, run_id: str, step: int) -> RunHandle:
    """Run a closed workflow again from a step, with what it remembers of those before.

    step: its position among the run's steps, since names may have personal data. Raises InvalidOptionError,
    UnknownRunError, RunStateError.
    """
    with recorded(user, "replay run from a step", subject=run_id, tenant_id=_tenant_of(run_id)) as entry:
        entry.hide = _hide(run_id)
        with autocommit() as connection:
            known = [one.name for one in steps_of(connection, run_id, None)]
        if not 0 <= step < len(known):
            raise InvalidOptionError("step", f"must be one of the {len(known)} steps of the run, not {step}")
        handle = _client().retry(run_id, known[step])
        entry.affected, entry.message = 1, entry.hide(f"new run {handle.id}, from {known[step]}")
        return handle


def _hide(run_id: str) -> Callable[[str], str]:
    """Takes personal data of the run's payload out of a text."""
    run = _client().get_run_status(run_id)
    return Redaction(run.event, run.payload).text


def suspend_tenant(user: User, tenant_id: str) -> None:
    """Hold a tenant's runs. Raises UnknownTenantError."""
    with recorded(user, "suspend tenant", subject=tenant_id, tenant_id=tenant_id) as entry:
        suspending.suspend_tenant(tenant_id, by=user.name)
        entry.affected = 1


def resume_tenant(user: User, tenant_id: str) -> None:
    """Let a tenant's runs go on. Raises UnknownTenantError."""
    with recorded(user, "resume tenant", subject=tenant_id, tenant_id=tenant_id) as entry:
        suspending.resume_tenant(tenant_id)
        entry.affected = 1


def end_quarantine(user: User, tenant_id: str, reason: str = "") -> bool:
    """End a tenant's quarantine. Returns whether it was paused. Raises UnknownTenantError."""
    with recorded(user, "end quarantine", subject=tenant_id, tenant_id=tenant_id) as entry:
        registry.require(tenant_id)
        ended = quarantine.end_quarantine(tenant_id, by=user.name, reason=reason)
        entry.affected, entry.message = int(ended), reason
        return ended


def pause_queue(user: User, name: str, reason: str = "") -> None:
    """Hold a queue's runs. Raises InvalidOptionError."""
    with recorded(user, "pause queue", subject=name) as entry:
        queues.pause_queue(name, by=user.name, reason=reason)
        entry.affected, entry.message = 1, reason


def resume_queue(user: User, name: str) -> None:
    """Let a queue's runs go on. A queue that is not paused stays as it is."""
    with recorded(user, "resume queue", subject=name) as entry:
        entry.affected = int(queues.resume_queue(name))


def drain_worker(user: User, worker_id: str, reason: str = "") -> str:
    """Let a worker take no more runs. Returns its name. Raises InvalidOptionError where it is gone or cannot."""
    with recorded(user, "drain worker", subject=worker_id) as entry:
        found = workers.drain_workers(worker_id, by=user.name, reason=reason)
        entry.affected, entry.message = len(found), f"{found[0].name}{f': {reason}' if reason else ''}"
        return found[0].name


def resume_worker(user: User, worker_id: str) -> str:
    """Let a drained worker take runs again. Returns its name. Raises InvalidOptionError where it is gone."""
    with recorded(user, "let worker take runs", subject=worker_id) as entry:
        found = workers.list_workers(worker_id)
        entry.affected = workers.resume_workers(worker_id)
        entry.message = found[0].name if found else ""
        return entry.message or worker_id


def enable_schedule(user: User, name: str, *, enabled: bool) -> None:
    """Pause an entry of SCHEDULES, or let it tick again. Raises UnknownScheduleError."""
    with recorded(user, "resume schedule" if enabled else "pause schedule", subject=name) as entry:
        schedule = find_schedule(name)
        from cgk_tasks.schedules.django_setup import set_up_django

        set_up_django()
        from django.db import connections

        from cgk_tasks.schedules.periodic_tasks import set_enabled, store_entry

        try:
            if not set_enabled(schedule.name, enabled=enabled):
                store_entry(schedule, enabled=enabled, with_times=True)
        finally:
            connections.close_all()  # Django would keep one for each thread
        entry.affected = 1


def trigger_schedule(user: User, name: str, tenant_id: str = "") -> Tick:
    """Make a tick now, for one tenant or all. Raises UnknownScheduleError, UnknownTenantError."""
    with recorded(user, "trigger schedule", subject=name, tenant_id=tenant_id or None) as entry:
        schedule = find_schedule(name)
        if tenant_id:
            registry.require(tenant_id)
        tick = fire(schedule, datetime.now(UTC), tenant_id=tenant_id or None, by_hand=True)
        entry.affected = tick.runs
        return tick


def pause_tenant_schedule(user: User, schedule_id: str, *, paused: bool) -> None:
    """Pause or resume a schedule that a tenant made. Raises UnknownScheduleError."""
    known = tenant_schedules.get_schedule(schedule_id)
    action = "pause tenant's schedule" if paused else "resume tenant's schedule"
    with recorded(user, action, subject=known.id, tenant_id=known.tenant_id) as entry:
        change = tenant_schedules.pause_schedule if paused else tenant_schedules.resume_schedule
        change(known.id)
        entry.affected = 1


def record_view_of_personal_data(user: User, run_id: str) -> None:
    """Write into the audit that personal data is shown."""
    with recorded(user, "look at personal data", subject=run_id, tenant_id=_tenant_of(run_id)) as entry:
        entry.affected = 1
