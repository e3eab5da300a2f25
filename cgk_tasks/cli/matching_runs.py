"""`--matching` of `cgk-tasks runs retry` and `cancel`: the same on all runs that match a search, at a pace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cgk_tasks.cli import application, exits
from cgk_tasks.cli.output import print_facts, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.dashboard.data.matches import Plan
    from cgk_tasks.dashboard.long_actions import LongAction

Kind = Literal["retry", "cancel", "replay"]

Matching = Annotated[
    str | None,
    typer.Option(metavar="SEARCH", help="All runs that match, in place of ids; as the dashboard's list searches."),
]
Rate = Annotated[int, typer.Option(min=1, max=1000, help="With --matching: so many runs a second.")]
DEFAULT_RATE = 20

_COLUMNS = ("id", "tenant_id", "event", "state", "error_code", "outcome")
_DONE = {"retry": "retried", "cancel": "cancelled", "replay": "replayed"}


def on_ids_or_matches(run_ids: list[str] | None, matching: str | None) -> list[str]:
    """The ids, none where there is a search. Raises BadParameter for both, or neither."""
    if bool(run_ids) == (matching is not None):
        raise typer.BadParameter("Give ids, or a search with --matching.")
    return run_ids or []


def act_on_matches(kind: Kind, search: str, rate: int, *, dry_run: bool, as_json: bool) -> None:
    """Say what would be done, or do it, until it is done or somebody stops it. Exits with 1 if it did not end well."""
    from cgk_tasks.dashboard.match_actions import needs_confirmation, new_action, plan_of
    from cgk_tasks.errors import InvalidOptionError

    application.client()
    application.load_jobs()
    if needs_confirmation(search):
        raise InvalidOptionError(
            "--matching", "it has no term, so that it matches every run of every tenant", hint="Narrow it down."
        )
    if dry_run:
        plan, _now = plan_of(kind, search, of_all=True)
        _print_plan(kind, plan, as_json=as_json)
    else:
        _perform(new_action(kind, search, rate), as_json=as_json)


def _print_plan(kind: Kind, plan: Plan, *, as_json: bool) -> None:
    from cgk_tasks.dashboard.long_actions import left_alone

    rows = [
        {
            "id": run.id, "tenant_id": run.tenant_id, "event": run.event, "state": run.state,
            "error_code": run.error_code, "outcome": f"left alone: {why}" if why else f"would be {_DONE[kind]}",
        }
        for run, why in plan.sample
    ]  # fmt: skip
    facts = {
        "runs": plan.acting, "by_state": dict(plan.states), "by_tenant": dict(plan.by_tenant),
        "by_event": dict(plan.by_event), "left_alone": dict(plan.left),
    }  # fmt: skip
    if as_json:
        print_json({**facts, "sample": rows})
        return
    counted = {
        name: ", ".join(f"{key} {runs:,}" for key, runs in value.items()) if isinstance(value, dict) else f"{value:,}"
        for name, value in facts.items()
    }
    print_facts(counted | {"left_alone": left_alone(plan.left)})
    if rows:
        print_table(rows, _COLUMNS)
    say("Nothing was done.")


def _perform(action: LongAction, *, as_json: bool) -> None:
    from cgk_tasks.dashboard import audit
    from cgk_tasks.dashboard.long_actions import perform, record
    from cgk_tasks.dashboard.roles import User
    from cgk_tasks.tenancy.audit import actor

    entry = record(User(actor(), "operator"), action, via="cli")
    about = f"{action.expected:,} runs, {action.pace} a second"
    say(f"Action {entry.id}: {action.name}, {about}. Ctrl-C stops it; so does the dashboard at /actions/{entry.id}.")
    try:
        perform(entry, action)
    except KeyboardInterrupt:
        audit.end(entry, "aborted", "interrupted at the terminal")
    line = audit.lines(action_id=entry.id, limit=1)[0]
    if as_json:
        print_json({
            "action": line.id, "outcome": line.outcome, "runs": line.affected,
            "left_alone": line.details.get("left", {}), "message": line.message,
        })  # fmt: skip
    else:
        print_facts({"action": line.id, "state": line.outcome, "runs": line.affected, "message": line.message})
    if line.outcome != "done":
        raise typer.Exit(exits.FAILED)
