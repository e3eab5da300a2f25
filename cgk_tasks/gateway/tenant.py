"""What the key's tenant has and may, by HTTP: its schedules, its limits, its usage."""

from __future__ import annotations

from typing import Any, Final, Literal, cast

from starlette.responses import Response

from cgk_tasks.flow.plans import TenantLimits, get_tenant_limits
from cgk_tasks.gateway.endpoint import Call, answer, bad_request, moment_of
from cgk_tasks.runs.usage import Usage, get_usage
from cgk_tasks.schedules.tenant_schedules import TenantSchedule, list_schedules

BY: Final = ("hour", "day", "month", "total")


async def show_schedules(call: Call) -> Response:
    """GET /v1/schedules: those that were made for this tenant."""
    call.query()
    found = await call.do(list_schedules, call.tenant.id)
    return answer({"schedules": [_schedule(schedule) for schedule in found]})


async def show_limits(call: Call) -> Response:
    """GET /v1/limits: what the tenant may, and where each value comes from."""
    call.query()
    return answer(_limits(await call.do(get_tenant_limits, call.tenant.id)))


async def show_usage(call: Call) -> Response:
    """GET /v1/usage: what the tenant used, since the beginning of the month or another time."""
    given = call.query("since", "until", "by")
    by = given.get("by", "day")
    if by not in BY:
        raise bad_request(f"by must be one of {', '.join(BY)}.")
    times = {name: moment_of(name, given[name]) for name in ("since", "until") if name in given}
    kind = cast("Literal['hour', 'day', 'month', 'total']", by)
    found = await call.do(get_usage, call.tenant.id, times.get("since"), times.get("until"), by=kind)
    return answer({"usage": [_used(one) for one in found]})


def _schedule(one: TenantSchedule) -> dict[str, Any]:
    return {
        "id": one.id, "tenantId": one.tenant_id, "event": one.event, "payload": one.payload, "cron": one.cron,
        "timezone": one.timezone, "misfire": one.misfire, "overlap": one.overlap, "maxAge": one.max_age,
        "dedupKey": one.dedup_key, "isPaused": one.is_paused, "nextAt": one.next_at, "createdAt": one.created_at,
    }  # fmt: skip


def _limits(may: TenantLimits) -> dict[str, Any]:
    names = {"weight": "weight", "at_once": "atOnce", "starts": "starts", "daily_runs": "dailyRuns",
             "max_waiting": "maxWaiting"}  # fmt: skip
    starts = None if may.starts is None else {"runs": may.starts[0], "seconds": may.starts[1]}
    return {
        "tenantId": may.tenant_id, "plan": may.plan, "weight": may.weight, "atOnce": may.at_once, "starts": starts,
        "dailyRuns": may.daily_runs, "maxWaiting": may.max_waiting,
        "sources": {names[name]: source for name, source in may.sources.items()},
    }  # fmt: skip


def _used(one: Usage) -> dict[str, Any]:
    return {
        "begin": one.begin, "runs": one.runs, "failed": one.failed, "runSeconds": one.run_seconds,
        "queueSeconds": one.queue_seconds, "rejected": one.rejected,
    }  # fmt: skip
