"""Schedules: next ticks, the coming day, outcomes, coverage, pause, run now."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from cgk_tasks.dashboard import actions
from cgk_tasks.dashboard.data.coming_day import coming_day
from cgk_tasks.dashboard.data.listed_schedules import ListedSchedule, listed_schedules, strips, tick_in_words
from cgk_tasks.dashboard.display import namespace
from cgk_tasks.dashboard.pages.page import Page
from cgk_tasks.events.redaction import Redaction, redacted
from cgk_tasks.schedules.failing_entries import failing_entries
from cgk_tasks.schedules.fan_out import with_timing
from cgk_tasks.schedules.health import leading_beat
from cgk_tasks.schedules.history import coverage_in_short, known_schedules
from cgk_tasks.schedules.job_events import handled_events
from cgk_tasks.schedules.lookup import find_schedule
from cgk_tasks.schedules.overrides import list_overrides
from cgk_tasks.schedules.reach import reach_of_tick
from cgk_tasks.schedules.tenant_schedules import TenantSchedule, count_schedules, page_of_schedules
from cgk_tasks.tenancy import registry

_OF_TENANTS_ON_A_PAGE = 100
_MOST_COUNTED = 10_000
_MOST_SHOWN = 200
_MARKS = {"completed": "✓", "failed": "✕", "open": "…", "otherwise": "~", "missed": "!", "nobody": "·"}
"""How the states of ticks look, where there is room for a sign."""


def _matching(schedules: list[ListedSchedule], text: str) -> list[ListedSchedule]:
    return [one for one in schedules if text.lower() in f"{one.schedule.name} {one.schedule.event}".lower()]


class SchedulesPage(Page):
    """The table of SCHEDULES."""

    async def get(self) -> None:
        schedules = await self.run_blocking(listed_schedules)
        shown = _matching(schedules, self.field("text"))
        self.show(
            "schedules.html", schedules=shown, total=len(schedules), text=self.field("text"), marks=_MARKS,
            strips=await self.run_blocking(strips, [one.schedule.name for one in shown]), tick_in_words=tick_in_words,
            failing=await self.run_blocking(failing_entries),
            has_beat=await self.run_blocking(leading_beat) is not None,
        )  # fmt: skip


class ComingDayPage(Page):
    """Which ticks come when in the next 24 hours, and how many runs they make."""

    async def get(self) -> None:
        shown = _matching(await self.run_blocking(listed_schedules), self.field("text"))
        day = await self.run_blocking(coming_day, shown)
        url = namespace(self)["url"]
        self.show(
            "coming_day.html", day=day, text=self.field("text"),
            picture=day.picture(lambda name: url(f"/schedules/{name}")),
            has_beat=await self.run_blocking(leading_beat) is not None,
        )  # fmt: skip


class SchedulePage(Page):
    """One entry: what is to come, what was, and which tenants the last tick reached."""

    async def get(self, name: str) -> None:
        self.show(
            "schedule.html", marks=_MARKS, tick_in_words=tick_in_words, **await self.run_blocking(_everything, name)
        )


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
    strip = strips([name]).get(name)
    return {
        "schedule": in_force, "payload": redacted(schedule.event, dict(schedule.payload)), "is_enabled": is_enabled,
        "has_job": has_job, "known": known, "coming": coming, "strip": strip,
        "ticks": tuple(reversed(strip.ticks)) if strip else (),
        "coverage": coverage_in_short(schedule, _MOST_SHOWN), "overrides": list_overrides(name, limit=_MOST_SHOWN + 1),
        "most_shown": _MOST_SHOWN,
    }  # fmt: skip


class PauseSchedule(Page):
    """Lets an entry tick no more, or again."""

    enabled = False

    async def post(self, name: str) -> None:
        await self.run_blocking(actions.enable_schedule, self.user, name, enabled=self.enabled)
        said = f"{name} {'ticks again, from its next tick on' if self.enabled else 'is paused'}."
        if self.field("from") == "list":
            self.redirect_to("/schedules", said, text=self.field("text"))
        else:
            self.redirect_to(f"/schedules/{name}", said)


class ResumeSchedule(PauseSchedule):
    """Lets a paused entry tick again."""

    enabled = True


class RunScheduleNow(Page):
    """Asks whether a tick is to be made now, and says how many tenants it would reach."""

    role_to_look = "operator"

    async def get(self, name: str) -> None:
        tenant = self.field("tenant")
        schedule = find_schedule(name)
        if tenant:
            await self.run_blocking(registry.require, tenant)
        self.show(
            "run_schedule_now.html", schedule=schedule, tenant=tenant,
            reach=await self.run_blocking(reach_of_tick, schedule, tenant or None),
            has_job=schedule.event in await self.run_blocking(handled_events),
        )  # fmt: skip


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
        tenant, after = self.field("tenant"), self.field("after").partition("/")
        schedules = await self.run_blocking(
            page_of_schedules, tenant or None, (after[0], after[2]) if after[2] else None, _OF_TENANTS_ON_A_PAGE
        )
        last = schedules[-1] if len(schedules) == _OF_TENANTS_ON_A_PAGE else None
        self.show(
            "tenant_schedules.html", schedules=[_without_personal_data(one) for one in schedules], tenant=tenant,
            total=await self.run_blocking(count_schedules, tenant or None, _MOST_COUNTED), most_counted=_MOST_COUNTED,
            following=f"{last.tenant_id}/{last.id}" if last else "", is_first=not after[2],
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
