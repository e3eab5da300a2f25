"""Whether the schedules tick: the dead man's switch."""

from __future__ import annotations

import os
from collections.abc import Sequence

import psycopg

from cgk_tasks.cli.doctor.findings import Finding, fail, ok, warn
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.schedules.django_schema import require_own_schema
from cgk_tasks.schedules.failing_entries import FailingEntry, failing_entries
from cgk_tasks.schedules.health import LateSchedule, late_schedules, leading_beat
from cgk_tasks.schedules.history import known_schedules
from cgk_tasks.schedules.job_events import handled_events

_NAMED = 3


def check() -> list[Finding]:
    """Needs a database that is migrated."""
    enabled = [row["event"] for row in known_schedules().values() if row["is_enabled"]]
    handled = handled_events()
    without_job = sum(event not in handled for event in enabled)
    return [
        *_schema(),
        schedules(
            len(enabled) - without_job, late_schedules(), leading_beat(), without_job, by_http=_ticked_over_http()
        ),
        *periodic_tasks(failing_entries()),
    ]


def _schema() -> list[Finding]:
    """Nothing where all is well, or where Django is the application's own."""
    if os.environ.get("DJANGO_SETTINGS_MODULE"):
        return []
    try:
        require_own_schema()
    except ConfigurationError as exc:
        return [warn("beat", exc.text, exc.hint or "")]
    except psycopg.Error:
        pass  # the server went away meanwhile: other checks say so
    return []


def periodic_tasks(failing: Sequence[FailingEntry]) -> list[Finding]:
    """What of django-celery-beat's entries could not be sent; nothing where all were."""
    if not failing:
        return []
    named = "; ".join(f"{one.name} ({one.task}): {one.reason}" for one in failing[:_NAMED])
    rest = f" and {len(failing) - _NAMED} more" if len(failing) > _NAMED else ""
    advice = (
        "See them with: cgk-tasks schedules list. A tenant is named in the entry's headers, or by "
        "CGK_PERIODIC_TASKS_TENANT."
    )
    return [fail("periodic tasks", f"Not sent: {named}{rest}", advice)]


def _ticked_over_http() -> bool:
    """Whether a clock outside may call `/v1/tick`."""
    settings = get_settings()
    return bool(settings.cron_secret or settings.qstash_keys)


def schedules(
    known: int, late: Sequence[LateSchedule], leader: str | None, without_job: int = 0, *, by_http: bool = False
) -> Finding:
    if late:
        named = ", ".join(f"{one.name} ({one.seconds_late:.0f} s)" for one in late[:_NAMED])
        rest = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
        advice = "Read beat's log." if leader else "No beat leads. Start one: celery -A cgk_tasks beat"
        if by_http and not leader:
            advice = "Does the clock outside call /v1/tick every minute? Read its log and the gateway's."
        return fail("schedules", f"Not ticked in time: {named}{rest}", advice)
    if not known and not without_job:
        return ok("schedules", "no beat has run here")
    if leader is None and not by_http:
        return warn("schedules", "No beat leads: nothing will tick.", "Start one: celery -A cgk_tasks beat")
    rest = f"; {without_job} do not, as nobody has a job for their events" if without_job else ""
    how = ", by calls of /v1/tick" if leader is None else ""
    return ok("schedules", f"{known} tick{how}{rest}")
