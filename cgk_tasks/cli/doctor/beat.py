"""Whether the schedules tick: the dead man's switch."""

from __future__ import annotations

from collections.abc import Sequence

from cgk_tasks.cli.doctor.findings import Finding, fail, ok, warn
from cgk_tasks.schedules.health import LateSchedule, late_schedules, leading_beat
from cgk_tasks.schedules.history import known_schedules
from cgk_tasks.schedules.job_events import handled_events

_NAMED = 3


def check() -> list[Finding]:
    """Needs a database that is migrated."""
    enabled = [row["event"] for row in known_schedules().values() if row["is_enabled"]]
    handled = handled_events()
    without_job = sum(event not in handled for event in enabled)
    return [schedules(len(enabled) - without_job, late_schedules(), leading_beat(), without_job)]


def schedules(known: int, late: Sequence[LateSchedule], leader: str | None, without_job: int = 0) -> Finding:
    if late:
        named = ", ".join(f"{one.name} ({one.seconds_late:.0f} s)" for one in late[:_NAMED])
        rest = f" and {len(late) - _NAMED} more" if len(late) > _NAMED else ""
        advice = "Read beat's log." if leader else "No beat leads. Start one: celery -A cgk_tasks beat"
        return fail("schedules", f"Not ticked in time: {named}{rest}", advice)
    if not known and not without_job:
        return ok("schedules", "no beat has run here")
    if leader is None:
        return warn("schedules", "No beat leads: nothing will tick.", "Start one: celery -A cgk_tasks beat")
    rest = f"; {without_job} do not, as nobody has a job for their events" if without_job else ""
    return ok("schedules", f"{known} tick{rest}")
