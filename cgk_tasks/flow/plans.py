"""Plans, and what single tenants may: weights, runs at once, starts in a time, sends in a day, runs that wait.

What is set counts for all senders and workers within CGK_RULES_REFRESH_SECONDS, and nothing has to be started anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import psycopg

from cgk_tasks.admission.rules import TENANT_AT_ONCE
from cgk_tasks.admission.running import count_running
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.changes import (
    KEEP,
    NUMBERS,
    Change,
    Keep,
    changing,
    checked_numbers,
    merged,
)
from cgk_tasks.sql.postgres import Connection, Row, autocommit, execute, explain, fetch, statements
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL, ADMISSION = statements("limits"), statements("admission")

Source = Literal["tenant", "plan", "default"]
_LONGEST_NAME: Final = 63
_TENANTS_NAMED: Final = 3


@dataclass(frozen=True, slots=True)
class Plan:
    """What each tenant of a plan may; None for no such limit, and a weight of 1. `starts`: how many in how many
    seconds.
    """

    name: str
    weight: float | None = None
    at_once: int | None = None
    starts: tuple[int, float] | None = None
    daily_runs: int | None = None
    max_waiting: int | None = None
    tenants: int = 0
    changed_at: datetime | None = None
    changed_by: str = ""


@dataclass(frozen=True, slots=True)
class TenantLimits:
    """What a tenant may, as it counts now. `sources`: of each value, whether it is set for the tenant, comes from its
    plan, or is nobody's.
    """

    tenant_id: str
    plan: str | None
    weight: float
    at_once: int | None
    starts: tuple[int, float] | None
    daily_runs: int | None
    max_waiting: int | None
    sources: dict[str, Source]


def set_plan(
    name: str,
    *,
    weight: float | Keep | None = KEEP,
    at_once: int | Keep | None = KEEP,
    starts: tuple[int, float | timedelta] | Keep | None = KEEP,
    daily_runs: int | Keep | None = KEEP,
    max_waiting: int | Keep | None = KEEP,
    by: str = "",
    reason: str = "",
) -> Plan:
    """Make or change a plan. Its tenants get what it says, but for what is set for themselves.

    weight: how much of a crowded queue a tenant gets beside others, who have 1. at_once: how many of its runs are on at
    once, of all jobs. starts: how many start in how many seconds; the excess waits. daily_runs: how many may be sent
    in a day of UTC. max_waiting: how many may wait; a send beyond that is refused. What is left out stays as it was;
    None takes it away. Raises InvalidOptionError, StoreError.

        set_plan("pro", weight=4, at_once=50, starts=(1000, 60), daily_runs=100_000, max_waiting=50_000)
    """
    _check_name(name)
    wanted = checked_numbers(weight, at_once, starts, daily_runs, max_waiting)
    old = _plan_row(name)
    if old is not None and merged(old, wanted) == merged(old, {}):
        return find_plan(name)
    with changing() as (connection, version):
        rows = fetch(connection, SQL["get_plan"], {"name": name})
        before, after = merged(rows[0] if rows else None, {}), merged(rows[0] if rows else None, wanted)
        execute(connection, SQL["put_plan"], after | {"name": name, "by": by})
        touched = fetch(connection, SQL["touch_tenants_of_plan"], {"plan": name, "version": version})
        _put_in_force(connection, [row["tenant_id"] for row in touched])
        Change(by, reason).note(connection, "set plan", name, before, after)
    return find_plan(name)


def remove_plan(name: str, *, by: str = "", reason: str = "") -> bool:
    """Remove a plan that no tenant has. Returns whether there was one. Raises InvalidOptionError while tenants have
    it.
    """
    with changing() as (connection, _version):
        having = fetch(connection, SQL["tenants_of_plan"], {"plan": name, "limit": _TENANTS_NAMED + 1})
        if having:
            names = ", ".join(row["tenant_id"] for row in having[:_TENANTS_NAMED])
            raise InvalidOptionError(
                "plan",
                f"{name!r} is that of {names}{' and others' * (len(having) > _TENANTS_NAMED)}.",
                hint="Give them another one first: cgk-tasks tenants set-plan TENANT PLAN",
            )
        gone = fetch(connection, SQL["remove_plan"], {"name": name})
        if gone:
            Change(by, reason).note(connection, "remove plan", name, merged(gone[0], {}), {})
    return bool(gone)


def list_plans() -> list[Plan]:
    """All plans, by name. Raises StoreError."""
    return [_plan(row) for row in _asked("plans", {})]


def find_plan(name: str) -> Plan:
    """The plan with this name. Raises InvalidOptionError, which has the nearest name."""
    found = {plan.name: plan for plan in list_plans()}
    if name not in found:
        raise _unknown_plan(name, list(found))
    return found[name]


def set_tenant_limits(
    tenant_id: str,
    *,
    plan: str | Keep | None = KEEP,
    weight: float | Keep | None = KEEP,
    at_once: int | Keep | None = KEEP,
    starts: tuple[int, float | timedelta] | Keep | None = KEEP,
    daily_runs: int | Keep | None = KEEP,
    max_waiting: int | Keep | None = KEEP,
    by: str = "",
    reason: str = "",
) -> TenantLimits:
    """Give a tenant a plan, and limits of its own, which come before those of the plan.

    The values are those of `set_plan`. What is left out stays as it was; None takes it away, so that the plan's
    counts. A limit that is lowered ends nothing: nothing new starts until fewer are on. Raises UnknownTenantError,
    InvalidOptionError, StoreError.

        set_tenant_limits("acme", plan="pro", at_once=80)
    """
    registry.require(tenant_id)
    wanted = checked_numbers(weight, at_once, starts, daily_runs, max_waiting)
    if isinstance(plan, str):
        find_plan(plan)
    with changing() as (connection, version):
        rows = fetch(connection, SQL["get_tenant"], {"tenant_id": tenant_id})
        row = rows[0] if rows else None
        before: dict[str, Any] = {"plan": row and row["plan"]} | merged(row, {})
        after = before | merged(row, wanted) | ({} if plan is KEEP else {"plan": plan})
        if before != after:
            execute(connection, SQL["put_tenant"], after | {"tenant_id": tenant_id, "by": by, "version": version})
            _put_in_force(connection, [tenant_id])
            Change(by, reason).note(connection, "set tenant limits", tenant_id, before, after, tenant_id)
    return get_tenant_limits(tenant_id)


def get_tenant_limits(tenant_id: str) -> TenantLimits:
    """What a tenant may, and where each value comes from. Raises UnknownTenantError, StoreError, and TenantContextError
    inside another tenant's context.
    """
    refuse_in_context(f"What tenant {tenant_id!r} may", tenant_id)
    registry.require(tenant_id)
    rows = _asked("in_force", {"tenant_id": tenant_id})
    if not rows:
        names = ("weight", "at_once", "starts", "daily_runs", "max_waiting")
        return TenantLimits(tenant_id, None, 1.0, None, None, None, None, dict.fromkeys(names, "default"))
    row = rows[0]
    own = {"starts": _starts(row["starts"], row["period"])}
    plans = {"starts": _starts(row["plan_starts"], row["plan_period"])}
    for name in ("weight", "at_once", "daily_runs", "max_waiting"):
        own[name], plans[name] = row[name], row[f"plan_{name}"]
    values: dict[str, Any] = {name: plans[name] if value is None else value for name, value in own.items()}
    sources: dict[str, Source] = {
        name: "tenant" if value is not None else "default" if plans[name] is None else "plan"
        for name, value in own.items()
    }
    values["weight"] = 1.0 if values["weight"] is None else values["weight"]
    return TenantLimits(tenant_id, row["plan"], **values, sources=sources)


def _put_in_force(connection: Connection, tenants: Sequence[str]) -> None:
    """What hangs on the numbers of these tenants: their shares in queues, and the gates of all of their runs."""
    if tenants:
        execute(connection, SQL["weigh_shares"], {"tenants": list(tenants)})
        execute(connection, ADMISSION["renumber_gates_of_tenants"], {"tenants": list(tenants)})
        limited = [row["tenant_id"] for row in fetch(connection, SQL["limited_at_once"], {"tenants": list(tenants)})]
        if limited:
            count_running(connection, TENANT_AT_ONCE, tenants=limited)


def _asked(statement: str, values: dict[str, Any]) -> list[Row]:
    try:
        with autocommit() as connection:
            return fetch(connection, SQL[statement], values)
    except psycopg.Error as exc:
        raise explain(exc) from exc


def _plan_row(name: str) -> Row | None:
    return next(iter(_asked("get_plan", {"name": name})), None)


def _plan(row: Row) -> Plan:
    values = {name: row[name] for name in NUMBERS if name not in {"starts", "period", "burst"}}
    return Plan(
        row["name"], **values, starts=_starts(row["starts"], row["period"]), tenants=row["tenants"],
        changed_at=row["changed_at"], changed_by=row["changed_by"],
    )  # fmt: skip


def _starts(rate: int | None, period: float | None) -> tuple[int, float] | None:
    return None if rate is None or period is None else (rate, period)


def _check_name(name: object) -> None:
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or not 0 < len(name) <= _LONGEST_NAME
        or name != name.strip()
    ):
        raise InvalidOptionError("plan", f"must be a name of 1 to {_LONGEST_NAME} printable characters, not {name!r}")


def _unknown_plan(name: object, known: Sequence[str]) -> InvalidOptionError:
    there_are = f"There are: {', '.join(known)}." if known else "There is none yet: cgk-tasks plans set NAME --weight 4"
    near = did_you_mean(name, known).strip() if isinstance(name, str) else ""
    return InvalidOptionError("plan", f"is {name!r}, and there is no such plan.", hint=f"{near} {there_are}".strip())
