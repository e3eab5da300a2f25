"""`cgk-tasks tenants limits`, `set-plan` and `set-limits`: what one tenant may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.limit_options import (
    NONE,
    AtOnceOption,
    By,
    DailyRuns,
    MaxWaiting,
    Reason,
    Starts,
    Weight,
    given,
    shown_starts,
    warn_if_not_kept,
)
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, shown

if TYPE_CHECKING:
    from cgk_tasks.flow.plans import TenantLimits

TenantId = Annotated[str, typer.Argument(metavar="ID", help="The tenant.")]


def add_to(commands: typer.Typer) -> None:
    """Add these to the commands about tenants."""
    commands.command("limits", epilog=examples("cgk-tasks tenants limits acme"))(limits)
    commands.command(
        "set-plan", epilog=examples("cgk-tasks tenants set-plan acme pro", "cgk-tasks tenants set-plan acme none")
    )(set_plan)
    commands.command(
        "set-limits",
        epilog=examples(
            "cgk-tasks tenants set-limits acme --at-once 80 --reason 'their migration'",
            "cgk-tasks tenants set-limits acme --weight 2 --at-once none",
        ),
    )(set_limits)


def limits(tenant_id: TenantId, as_json: AsJson = False) -> None:
    """Say what a tenant may, and where each value comes from: the tenant itself, or its plan."""
    from cgk_tasks.flow.plans import get_tenant_limits

    _print(get_tenant_limits(tenant_id), as_json)


def set_plan(
    tenant_id: TenantId,
    plan: Annotated[str, typer.Argument(metavar="PLAN", help=f"The plan, or {NONE}.")],
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Give a tenant a plan. What is set for the tenant itself still comes first."""
    from cgk_tasks.flow.plans import set_tenant_limits
    from cgk_tasks.tenancy.audit import actor

    wanted = None if plan == NONE else plan
    _print(set_tenant_limits(tenant_id, plan=wanted, by=by or actor(), reason=reason), as_json)
    warn_if_not_kept()


def set_limits(
    tenant_id: TenantId,
    weight: Weight = None,
    at_once: AtOnceOption = None,
    starts: Starts = None,
    daily_runs: DailyRuns = None,
    max_waiting: MaxWaiting = None,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Set a tenant's own weight and limits, before those of its plan. `none` lets the plan's count again."""
    from cgk_tasks.flow.plans import set_tenant_limits
    from cgk_tasks.tenancy.audit import actor

    options = {
        "weight": weight, "at_once": at_once, "starts": starts, "daily_runs": daily_runs, "max_waiting": max_waiting,
    }  # fmt: skip
    _print(set_tenant_limits(tenant_id, **given(options), by=by or actor(), reason=reason), as_json)
    warn_if_not_kept()


def _print(found: TenantLimits, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    typer.echo(f"{found.tenant_id}: {f'plan {found.plan}' if found.plan else 'no plan'}")
    values: dict[str, Any] = {
        "weight": f"{found.weight:g}", "at_once": found.at_once, "starts": shown_starts(found.starts),
        "daily_runs": found.daily_runs, "max_waiting": found.max_waiting,
    }  # fmt: skip
    rows = [
        {"limit": name, "value": "no limit" if value is None else shown(value), "from": found.sources[name]}
        for name, value in values.items()
    ]
    print_table(rows, ("limit", "value", "from"))
