"""`cgk-tasks workflows`: what workflows wait for, what they have done, and what can be done to them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli import application
from cgk_tasks.cli.output import AsJson, age, examples, json_text, print_heading, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.runs.shown_steps import ShownStep, Waiting

commands = typer.Typer(
    help="List workflows that wait, show their steps, send them signals, and replay them.",
    epilog=examples(
        "cgk-tasks workflows list", "cgk-tasks workflows show ID", "cgk-tasks workflows signal ID approve '{}'"
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]

_MOST_AWAITED = 3


@commands.command(
    "list", epilog=examples("cgk-tasks workflows list --tenant acme", "cgk-tasks workflows list --job onboard --json")
)
def list_waiting(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    job: Annotated[str | None, typer.Option(help="Only of this workflow.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many waits.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List workflows that wait, the oldest first: for what, since when and until when."""
    from cgk_tasks.runs.shown_steps import waiting_workflows
    from cgk_tasks.sql.postgres import autocommit

    with autocommit() as connection:
        found = waiting_workflows(connection, tenant_id=tenant, job=job, limit=limit)
    if as_json:
        print_json(found)
    elif found:
        print_table([_waiting(one) for one in found], ("id", "tenant", "workflow", "waits_for", "since", "until"))
    else:
        say("No workflow waits.")


def _waiting(one: Waiting) -> dict[str, Any]:
    awaited = ", ".join(one.awaits[:_MOST_AWAITED])
    if len(one.awaits) > _MOST_AWAITED:
        awaited = f"{len(one.awaits)} of them"
    return {
        "id": one.id, "tenant": one.tenant_id, "workflow": one.job or one.event, "since": age(one.since),
        "waits_for": f"{one.kind} {one.step}" + (f": {awaited}" if awaited and awaited != one.step else ""),
        "until": one.until,
    }  # fmt: skip


@commands.command("show", epilog=examples("cgk-tasks workflows show ID", "cgk-tasks workflows show ID --json"))
def show(
    run_id: RunId,
    show_payload: Annotated[bool, typer.Option("--show-payload", help="Show personal data too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the steps and waits of a run, with their times and results. Personal data of the payload is left out."""
    from cgk_tasks.events.redaction import Redaction
    from cgk_tasks.runs.shown_steps import steps_of
    from cgk_tasks.sql.postgres import autocommit

    status = application.client().get_run_status(run_id)
    application.load_jobs()
    hide = None if show_payload else Redaction(status.event, status.payload)
    with autocommit() as connection:
        steps = steps_of(connection, status.id, hide)
    if as_json:
        print_json({"id": status.id, "event": status.event, "job": status.job, "state": status.state, "steps": steps})
        return
    print_heading(f"{status.job or status.event}: {status.state}")
    if steps:
        columns = ("step", "kind", "state", "failed", "began_at", "took", "waits_for", "until", "result")
        print_table([_step(one) for one in steps], columns)
    else:
        say("The run has no steps on record.")


def _step(one: ShownStep) -> dict[str, Any]:
    took = f"{(one.ended_at - one.began_at).total_seconds():.3g} s" if one.ended_at else ""
    shown = one.error.get("code") if one.error else one.result
    return {
        "step": one.label, "kind": one.kind, "state": one.state, "failed": one.attempts or "",
        "began_at": one.began_at, "took": took, "waits_for": ", ".join(one.awaits[:_MOST_AWAITED]),
        "until": one.until if one.ended_at is None else None,
        "result": "" if shown is None else shown if isinstance(shown, str) else " ".join(json_text(shown).split()),
    }  # fmt: skip


@commands.command(
    "signal",
    epilog=examples(
        'cgk-tasks workflows signal ID approve \'{"by": "ada"}\'', "cgk-tasks workflows signal ID go --key once"
    ),
)
def signal(
    run_id: RunId,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal that the workflow waits for.")],
    payload: Annotated[str, typer.Argument(metavar="JSON", help="What it brings.")] = "null",
    key: Annotated[str | None, typer.Option(help="Two signals with one key count once.")] = None,
) -> None:
    """Send a signal to an open run, for the workflow that waits for it now or later."""
    try:
        data = json.loads(payload)
    except ValueError as error:
        raise typer.BadParameter(f"this is no JSON: {error}", param_hint="JSON") from None
    if not application.client().signal(run_id, name, data, key=key):
        say("A signal with this key came before; nothing new was sent.")


@commands.command(
    "replay", epilog=examples("cgk-tasks workflows replay ID", "cgk-tasks workflows replay ID --from-step charge")
)
def replay(
    run_id: RunId,
    from_step: Annotated[str | None, typer.Option(metavar="STEP", help="Keep what was done before this step.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run a closed workflow again, from the beginning or from a step. Prints the id of the new run."""
    handle = application.client().retry(run_id, from_step)
    if as_json:
        print_json({"id": handle.id, "replay_of": run_id})
    else:
        typer.echo(handle.id)
