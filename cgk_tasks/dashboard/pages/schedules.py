"""Schedules: next ticks, coverage, pause, trigger."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from cgk_tasks.dashboard import actions
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.events.redaction import Redaction, redacted
from cgk_tasks.schedules.failing_entries import failing_entries
from cgk_tasks.schedules.fan_out import with_timing
from cgk_tasks.schedules.health import late_schedules, leading_beat
from cgk_tasks.schedules.history import known_schedules, last_coverage, last_ticks
from cgk_tasks.schedules.job_events import handled_events
from cgk_tasks.schedules.lookup import all_schedules, find_schedule
from cgk_tasks.schedules.overrides import list_overrides
from cgk_tasks.schedules.schedule import Schedule
from cgk_tasks.schedules.tenant_schedules import TenantSchedule, list_schedules
from cgk_tasks.sql.postgres import Row

_MOST_OF_TENANTS = 500


@dataclass(frozen=True, slots=True)
class ListedSchedule:
    """An entry of SCHEDULES as it is in force: an operator may have changed its times."""

    schedule: Schedule
    is_enabled: bool
    is_overridden: bool
    has_job: bool
    late_seconds: float | None
    last: Row | None
    next_tick: datetime | None


def listed_schedules() -> list[ListedSchedule]:
    """Every entry; its next tick is None while it is paused or has no job."""
    known, handled = known_schedules(), handled_events()
    late = {one.name: one.seconds_late for one in late_schedules()}
    return [
        _listed(one, known.get(one.name), late.get(one.name), has_job=one.event in handled)
        for one in all_schedules().values()
    ]


def _listed(schedule: Schedule, known: Row | None, late_seconds: float | None, *, has_job: bool) -> ListedSchedule:
    in_force = with_timing(schedule, known["cron"], known["timezone"]) if known else schedule
    is_enabled = known is None or known["is_enabled"]
    is_overridden = known is not None and known["is_overridden"]
    last = known if known and known["last_tick"] else None
    following = in_force.timing.next(datetime.now(UTC)) if is_enabled and has_job else None
    return ListedSchedule(in_force, is_enabled, is_overridden, has_job, late_seconds, last, following)


class SchedulesPage(Page):
    """The table of SCHEDULES."""

    async def get(self) -> None:
        schedules = await self.run_blocking(listed_schedules)
        text = self.field("text").lower()
        shown = [one for one in schedules if text in f"{one.schedule.name} {one.schedule.event}".lower()]
        self.show(
            "schedules.html", schedules=shown, total=len(schedules), text=self.field("text"),
            failing=await self.run_blocking(failing_entries),
            has_beat=await self.run_blocking(leading_beat) is not None,
        )  # fmt: skip


class SchedulePage(Page):
    """One entry: what is to come, what was, and which tenants the last tick reached."""

    async def get(self, name: str) -> None:
        self.show("schedule.html", **await self.run_blocking(_everything, name))


def _everything(name: str) -> dict[str, Any]:
    schedule = find_schedule(name)
    known = known_schedules().get(name)
    in_force = with_timing(schedule, known["cron"], known["timezone"]) if known else schedule
    is_enabled = known is None or known["is_enabled"]
    coming: list[datetime] = []
    moment = datetime.now(UTC)
    has_job = schedule.event in handled_events()
    while is_enabled and has_job and len(coming) < 5:
        moment = in_force.timing.next(moment)
        coming.append(moment)
    covered_at, coverage = last_coverage(schedule)
    return {
        "schedule": in_force, "payload": redacted(schedule.event, dict(schedule.payload)), "is_enabled": is_enabled,
        "has_job": has_job, "known": known, "coming": coming, "ticks": last_ticks(name, 20),
        "covered_at": covered_at, "reached": sum(row["run_id"] is not None for row in coverage),
        "tenants": len(coverage),
        "missed": [row for row in coverage if row["run_id"] is None][:200], "overrides": list_overrides(name)[:200],
    }  # fmt: skip


class PauseSchedule(Page):
    """Lets an entry tick no more, or again."""

    enabled = False

    async def post(self, name: str) -> None:
        await self.run_blocking(actions.enable_schedule, self.user, name, enabled=self.enabled)
        self.redirect_to(
            f"/schedules/{name}", "It ticks again, from its next tick on." if self.enabled else "It is paused."
        )


class ResumeSchedule(PauseSchedule):
    """Lets a paused entry tick again."""

    enabled = True


class TriggerSchedule(Page):
    """Makes a tick now."""

    async def post(self, name: str) -> None:
        tick = await self.run_blocking(actions.trigger_schedule, self.user, name, self.field("tenant"))
        left_out = tick.suspended + tick.switched_off + tick.overlapping
        rest = f" {left_out} tenants were left out: suspended, switched off or still running." if left_out else ""
        self.redirect_to(f"/schedules/{name}", f"Ticked now: {tick.runs} {'run' if tick.runs == 1 else 'runs'}.{rest}")


def _without_personal_data(one: TenantSchedule) -> TenantSchedule:
    """Its key may quote the payload."""
    return replace(one, dedup_key=one.dedup_key and Redaction(one.event, one.payload).text(one.dedup_key))


class TenantSchedulesPage(Page):
    """Schedules that tenants made."""

    async def get(self) -> None:
        tenant = self.field("tenant")
        schedules = await self.run_blocking(list_schedules, tenant or None)
        self.show(
            "tenant_schedules.html",
            schedules=[_without_personal_data(one) for one in schedules[:_MOST_OF_TENANTS]],
            total=len(schedules), tenant=tenant,
            handled=await self.run_blocking(handled_events),
        )  # fmt: skip


class PauseTenantSchedule(Page):
    """Pauses one, or resumes it."""

    paused = True

    async def post(self, schedule_id: str) -> None:
        await self.run_blocking(actions.pause_tenant_schedule, self.user, schedule_id, paused=self.paused)
        self.redirect_to(
            "/schedules/of-tenants", "It is paused." if self.paused else "It ticks again, from its next tick on."
        )


class ResumeTenantSchedule(PauseTenantSchedule):
    """Resumes a paused one."""

    paused = False
