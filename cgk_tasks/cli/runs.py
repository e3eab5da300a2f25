"""`cgk-tasks runs`: the record of runs, and what can be done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, get_args

import typer

from cgk_tasks.cli import application, exits, failures, values
from cgk_tasks.cli.follow import follow
from cgk_tasks.cli.matching_runs import DEFAULT_RATE, Matching, Rate, act_on_matches, on_ids_or_matches
from cgk_tasks.cli.output import AsJson, DryRun, age, examples, print_json, print_table, say
from cgk_tasks.cli.run_details import log_line, print_run, run_details
from cgk_tasks.config.nearest import did_you_mean
from cgk_tasks.runs.models import State

commands = typer.Typer(
    help="List, show, cancel and retry runs; read what they logged.",
    epilog=examples("cgk-tasks runs list --state failed", "cgk-tasks runs show ID", "cgk-tasks runs retry ID"),
    no_args_is_help=True,
    rich_markup_mode=None,
)

_COLUMNS = ("id", "age", "tenant_id", "event", "state", "error_code", "job", "attempt")

RunId = Annotated[str, typer.Argument(metavar="ID", help="The run's id.")]
RunIds = Annotated[list[str] | None, typer.Argument(metavar="[ID...]", help="One or several runs.")]


@commands.command(
    "list",
    epilog=examples(
        "cgk-tasks runs list --tenant acme --state failed",
        "cgk-tasks runs list --event order.created --limit 200 --json",
    ),
)
def list_runs(
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    event: Annotated[str | None, typer.Option(help="Only of this event.")] = None,
    job: Annotated[str | None, typer.Option(help="Only of this job.")] = None,
    state: Annotated[
        State | None,
        typer.Option(
            metavar="STATE",
            help=f"Only in this state: {', '.join(get_args(State))}.",
            parser=values.one_of(get_args(State)),
        ),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List runs, open and closed, the newest first."""
    from cgk_tasks.events.registry import event_name
    from cgk_tasks.runs import store

    found = store.listing(
        tenant_id=tenant,
        event=event_name(event) if event else None,
        job=job,
        state=state,
        limit=limit,
    )
    if as_json:
        # A listing is without what may be long; `runs show` has it.
        left_out = {"payload", "result", "errors", "errors_left_out", "progress", "metadata"}
        print_json([{k: v for k, v in asdict(run).items() if k not in left_out} for run in found])
    elif found:
        print_table([asdict(run) | {"age": age(run.created_at) if run.created_at else ""} for run in found], _COLUMNS)
    else:
        say(f"No run matches.{_unknown(tenant, event, job)}")


def _unknown(tenant: str | None, event: str | None, job: str | None) -> str:
    """A sentence for each name that was asked for and that nobody knows here."""
    from cgk_tasks.events.registry import ALIASES, event_names
    from cgk_tasks.jobs.registry import all_jobs
    from cgk_tasks.tenancy.registry import all_tenants

    application.load_jobs()
    asked: list[tuple[str, str | None, list[str]]] = [
        ("tenant", tenant, [one.id for one in all_tenants()]), ("event", event, [*event_names(), *ALIASES]),
        ("job", job, [one.id for one in all_jobs()]),
    ]  # fmt: skip
    return "".join(
        f" There is no {what} {name!r} here.{did_you_mean(name, known)}"
        for what, name, known in asked
        if name is not None and name not in known
    )


@commands.command("show", epilog=examples("cgk-tasks runs show ID", "cgk-tasks runs show ID --show-payload --json"))
def show(
    run_id: RunId,
    show_payload: Annotated[bool, typer.Option("--show-payload", help="Show personal data too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show everything about a run: its attempts' errors, children, payload and result.

    Personal data in the payload is left out, also where results, error texts and tracebacks quote it. Of a payload
    whose event is not known here, nothing is shown but the tenant.
    """
    from cgk_tasks.runs import store

    status = application.client().get_run_status(run_id)
    application.load_jobs()
    details = run_details(status, store.listing(parent_id=status.id, limit=1000), show_payload=show_payload)
    if as_json:
        print_json(details)
    else:
        print_run(details)


@commands.command("logs", epilog=examples("cgk-tasks runs logs ID", "cgk-tasks runs logs ID --json"))
def show_logs(run_id: RunId, as_json: AsJson = False) -> None:
    """Show what a run's job logged, in all its attempts. Personal data is redacted."""
    from cgk_tasks.runs import logs

    status = application.client().get_run_status(run_id)
    found = logs.lines(status.id)
    if as_json:
        print_json(found)
    elif found:
        for line in found:
            typer.echo(log_line(line))
    else:
        say("The run has logged nothing, or its lines were not kept (CGK_RUN_LOGS).")


commands.command("follow", epilog=examples("cgk-tasks runs follow ID", "cgk-tasks runs follow ID --timeout 60"))(follow)


@commands.command(
    "cancel",
    epilog=examples(
        "cgk-tasks runs cancel ID",
        "cgk-tasks runs cancel ID ID --dry-run",
        "cgk-tasks runs cancel --matching 'tenant:acme state:waiting' --rate 100",
    ),
)
def cancel(
    run_ids: RunIds = None,
    matching: Matching = None,
    rate: Rate = DEFAULT_RATE,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Cancel open runs: waiting ones at once, running ones within a second."""
    from cgk_tasks.errors import RunStateError

    ids = on_ids_or_matches(run_ids, matching)
    if matching is not None:
        act_on_matches("cancel", matching, rate, dry_run=dry_run, as_json=as_json)
        return
    client = application.client()

    def act(run_id: str) -> dict[str, Any]:
        if not dry_run:
            status = client.cancel(run_id)
            done = "cancelled" if status.is_closed else "will be interrupted"
            return {"id": status.id, "state": status.state, "outcome": done}
        status = client.get_run_status(run_id)
        if status.is_closed:
            raise RunStateError(run_id, status.state, "cancel")
        return {"id": status.id, "state": status.state, "outcome": "would be cancelled"}

    _for_each(ids, act, as_json=as_json)


@commands.command(
    "retry",
    epilog=examples(
        "cgk-tasks runs retry ID",
        "cgk-tasks runs retry ID ID --dry-run",
        "cgk-tasks runs retry --matching 'state:failed event:order.* since:2h' --dry-run",
    ),
)
def retry(
    run_ids: RunIds = None,
    matching: Matching = None,
    rate: Rate = DEFAULT_RATE,
    dry_run: DryRun = False,
    as_json: AsJson = False,
) -> None:
    """Run closed runs again, each as a new run that names the old one.

    With --matching only those that did not complete, and that nobody has run again yet.
    """
    from cgk_tasks.errors import RunStateError

    ids = on_ids_or_matches(run_ids, matching)
    if matching is not None:
        act_on_matches("retry", matching, rate, dry_run=dry_run, as_json=as_json)
        return
    client = application.client()

    def act(run_id: str) -> dict[str, Any]:
        if not dry_run:
            return {"id": client.retry(run_id).id, "replay_of": run_id}
        status = client.get_run_status(run_id)
        if not status.is_closed:
            raise RunStateError(run_id, status.state, "retry")
        return {"id": run_id, "state": status.state, "outcome": "would be retried"}

    _for_each(ids, act, as_json=as_json)


def _for_each(run_ids: Sequence[str], act: Callable[[str], dict[str, Any]], *, as_json: bool) -> None:
    """Do it for every run; one that refuses is reported and does not stop the others. Exits with 1 then."""
    from cgk_tasks.errors import RunError

    done, refused = [], 0
    for run_id in run_ids:
        try:
            done.append(act(run_id))
        except RunError as error:
            failures.report(error)
            refused += 1
    if as_json:
        print_json(done)
    elif done:
        print_table(done, ("id", "state", "replay_of", "outcome"))
    if refused:
        raise typer.Exit(exits.FAILED)
