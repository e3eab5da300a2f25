"""`cgk-tasks catalog`: the jobs that the catalog knows, and which of them the application has."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli import application, exits
from cgk_tasks.cli.output import AsJson, examples, print_facts, print_heading, print_json, print_table, say
from cgk_tasks.config.nearest import did_you_mean

if TYPE_CHECKING:
    from cgk_tasks.schedules.coverage import Coverage

commands = typer.Typer(
    help="Compare the application's jobs with those of the catalog.",
    epilog=examples(
        "cgk-tasks catalog list --area commerce/order-sync",
        "cgk-tasks catalog show commerce-sync-order",
        "cgk-tasks catalog check",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)

Area = Annotated[str | None, typer.Option(help="Only the jobs of this area.")]


def _coverage(area: str | None = None) -> list[Coverage]:
    from cgk_tasks.schedules.coverage import coverage

    application.load_jobs()
    known = coverage()
    if not known:
        say("The catalog in charge (CGK_CATALOG) has no jobs.")
    areas = list(dict.fromkeys(one.job.area for one in known))
    if area is not None and area not in areas:
        raise typer.BadParameter(
            f"there is no area {area!r}.{did_you_mean(area, areas)} There are: {', '.join(areas)}.",
            param_hint="--area",
        )
    return [one for one in known if area in {None, one.job.area}]


def _row(one: Coverage) -> dict[str, Any]:
    from cgk_tasks.schedules.coverage import policy_text, time_limit

    return {
        "id": one.id,
        "area": one.job.area,
        "event": one.job.event,
        "where": dict(one.job.where),
        "schedule": one.entry.name if one.entry else None,
        "retry": policy_text(one.job),
        "time_limit": time_limit(one.job),
        "state": one.state,
        "jobs": list(one.jobs),
    }


def _cells(row: dict[str, Any]) -> dict[str, Any]:
    """A row as people read it."""
    return {**row, "where": json.dumps(row["where"]) if row["where"] else None, "jobs": ", ".join(row["jobs"])}


@commands.command(
    "list", epilog=examples("cgk-tasks catalog list --missing", "cgk-tasks catalog list --area creators/applications")
)
def list_jobs(
    area: Area = None,
    missing: Annotated[bool, typer.Option("--missing", help="Only those that no job here does.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the jobs of the catalog, and whether CGK_JOB_MODULES have them.

    A job that the clock starts has two ids: its own, and that of its scheduled task. State `defined`: a job has the id;
    `covered`: another one does its work; `missing`: none does.
    """
    rows = [_row(one) for one in _coverage(area) if one.state == "missing" or not missing]
    if as_json:
        print_json(rows)
    else:
        print_table([_cells(row) for row in rows], ("id", "area", "event", "schedule", "retry", "state", "jobs"))


@commands.command(
    "show",
    epilog=examples("cgk-tasks catalog show onboarding-check", "cgk-tasks catalog show alert-critical --json"),
)
def show(
    job_id: Annotated[str, typer.Argument(metavar="ID", help="The job, or its scheduled task.")],
    as_json: AsJson = False,
) -> None:
    """Show a job of the catalog: its event, policy, time limit and schedule, and what here differs from them."""
    from cgk_tasks.schedules.coverage import overrides

    known = {one.id: one for one in _coverage()}
    if job_id not in known:
        raise typer.BadParameter(
            f"the catalog has no job {job_id!r}.{did_you_mean(job_id, known)} See all with: cgk-tasks catalog list",
            param_hint="ID",
        )
    one = known[job_id]
    facts = {
        **_row(one),
        "cron": f"{one.entry.cron} {one.entry.timezone}" if one.entry else None,
        "scope": one.entry.scope if one.entry else None,
        "scheduled_task": one.job.schedule,
    }
    differences = [override for override in overrides() if override.id in one.jobs]
    if as_json:
        print_json({**facts, "overridden": differences})
        return
    print_facts(_cells(facts))
    if differences:
        _print_overrides(differences)


@commands.command(
    "check",
    epilog=examples("cgk-tasks catalog check", "cgk-tasks catalog check --area creators/payout-processing --json"),
)
def check(area: Area = None, as_json: AsJson = False) -> None:
    """Say which jobs of the catalog the application has, which are missing, and what it overrides.

    Exits with 1 while one is missing.
    """
    from cgk_tasks.schedules.coverage import misspelt, overrides

    known = _coverage(area)
    ids = {state: [one.id for one in known if one.state == state] for state in ("defined", "covered", "missing")}
    missing = [one for one in known if one.state == "missing"]
    defined = set(ids["defined"])
    different = [one for one in overrides() if one.id in defined]
    wrong = misspelt(missing)
    if as_json:
        print_json({**ids, "overridden": different, "misspelt": wrong})
    else:
        typer.echo(", ".join(f"{len(found)} {state}" for state, found in ids.items()))
        _print_overrides(different)
        if missing:
            print_heading("missing")
            print_table([_cells(_row(one)) for one in missing], ("id", "area", "event", "schedule"))
        for job_id, meant in wrong.items():
            say(f'The catalog has no job {job_id!r}. Did you mean "{meant}"?')
    if missing:
        raise typer.Exit(exits.FAILED)


def _print_overrides(different: list[Any]) -> None:
    if different:
        print_heading("overridden")
        print_table([vars(one) for one in different], ("id", "what", "catalog", "here"))
