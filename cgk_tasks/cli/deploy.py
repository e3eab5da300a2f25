"""`cgk-tasks deploy`: what to know before new code is deployed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from cgk_tasks.cli import exits
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

commands = typer.Typer(
    help="Check new code against the runs that are open.",
    epilog=examples("cgk-tasks deploy check"),
    no_args_is_help=True,
    rich_markup_mode=None,
)


@commands.callback()
def _group() -> None:
    """A group, though it has one command."""


@commands.command("check", epilog=examples("cgk-tasks deploy check", "cgk-tasks deploy check --replay --json"))
def check(
    limit: Annotated[
        int, typer.Option(min=1, help="Look at the payloads of so many open runs of each event.")
    ] = 100_000,
    replay: Annotated[
        bool, typer.Option("--replay", help="Replay open workflows on what they have done. No step is executed.")
    ] = False,
    sample: Annotated[int, typer.Option(min=1, help="Replay so many runs of each workflow, the oldest.")] = 200,
    as_json: AsJson = False,
) -> None:
    """Name what the code in CGK_JOB_MODULES would break of the runs that are open in the database.

    Steps of workflows that runs have done and the code does not have any more, versions that it does not have, and
    payloads that its events do not accept. With --replay also what only a replay shows: names that are made while
    the function runs, an order that does not fit, results that cannot be read any more. It only reads. Exits with 1 if
    something breaks.
    """
    from cgk_tasks.builtin import register_builtin_jobs
    from cgk_tasks.cli.without_effects import without_effects
    from cgk_tasks.jobs.registry import import_job_modules
    from cgk_tasks.sql.postgres import transaction
    from cgk_tasks.workflows.deploy_check import findings

    register_builtin_jobs()
    import_job_modules()
    with transaction() as connection:
        replays, around = (sample, without_effects()) if replay else (0, None)
        found = findings(connection, limit=limit, replays=replays, around=around)
    if as_json:
        print_json(found)
    elif found:
        rows = [{**asdict(one), "examples": " ".join(one.examples), "message": one.problem} for one in found]
        print_table(rows, ("breaks", "where", "message", "runs", "examples"))
    else:
        say("Nothing breaks.")
    if found:
        raise typer.Exit(exits.FAILED)
