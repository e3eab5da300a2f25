"""`cgk-tasks plans`: what the tenants of a plan may."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.limit_options import (
    AtOnceOption,
    By,
    DailyRuns,
    MaxWaiting,
    Reason,
    Starts,
    Weight,
    given,
    shown_starts,
)
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.flow.plans import Plan

commands = typer.Typer(
    help="Plans: weights and limits that tenants inherit.",
    epilog=examples(
        "cgk-tasks plans set pro --weight 4 --at-once 50 --starts 1000/1m", "cgk-tasks tenants set-plan acme pro",
        "cgk-tasks plans list",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

Name = Annotated[str, typer.Argument(metavar="NAME", help="The plan.")]
_COLUMNS = ("name", "weight", "at_once", "starts", "daily_runs", "max_waiting", "tenants", "changed_at", "changed_by")


def _row(plan: Plan) -> dict[str, Any]:
    return dataclasses.asdict(plan) | {"starts": shown_starts(plan.starts)}


@commands.command("list", epilog=examples("cgk-tasks plans list", "cgk-tasks plans list --json"))
def list_plans(as_json: AsJson = False) -> None:
    """List every plan, with what its tenants may, and how many there are."""
    from cgk_tasks.flow import plans

    found = plans.list_plans()
    if as_json:
        print_json(found)
    elif found:
        print_table([_row(plan) for plan in found], _COLUMNS)
    else:
        say("There is no plan. Make one: cgk-tasks plans set pro --weight 4")


@commands.command(
    "set",
    epilog=examples(
        "cgk-tasks plans set pro --weight 4 --at-once 50",
        "cgk-tasks plans set free --max-waiting 1000 --daily-runs 500",
        "cgk-tasks plans set pro --at-once none",
    ),
)  # fmt: skip
def set_plan(
    name: Name,
    weight: Weight = None,
    at_once: AtOnceOption = None,
    starts: Starts = None,
    daily_runs: DailyRuns = None,
    max_waiting: MaxWaiting = None,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Make or change a plan. What is left out stays as it is. Counts within two seconds, for all workers and
    senders.
    """
    from cgk_tasks.flow import plans
    from cgk_tasks.tenancy.audit import actor

    options = {
        "weight": weight, "at_once": at_once, "starts": starts, "daily_runs": daily_runs, "max_waiting": max_waiting,
    }  # fmt: skip
    plan = plans.set_plan(name, **given(options), by=by or actor(), reason=reason)
    if as_json:
        print_json(plan)
    else:
        print_table([_row(plan)], _COLUMNS)


@commands.command("remove", epilog=examples("cgk-tasks plans remove trial"))
def remove(name: Name, by: By = None, reason: Reason = "") -> None:
    """Remove a plan that no tenant has."""
    from cgk_tasks.flow import plans
    from cgk_tasks.tenancy.audit import actor

    if plans.remove_plan(name, by=by or actor(), reason=reason):
        typer.echo(f"{name}: removed")
    else:
        plans.find_plan(name)  # says which there are
