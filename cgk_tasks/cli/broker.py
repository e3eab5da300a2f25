"""`cgk-tasks broker`: moving to another broker."""

from __future__ import annotations

from typing import Annotated

import typer

from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

commands = typer.Typer(
    help="Fill a new broker, or one that came back empty.",
    epilog=examples("cgk-tasks broker rebuild --dry-run", "cgk-tasks broker rebuild"),
    no_args_is_help=True,
    rich_markup_mode=None,
)

_REPORT_EVERY = 10_000


@commands.callback()
def _group() -> None:
    """A group, though it has one command."""


@commands.command(
    "rebuild",
    epilog=examples(
        "cgk-tasks broker rebuild --dry-run", "cgk-tasks broker rebuild", "cgk-tasks broker rebuild --json"
    ),
)
def rebuild(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count the runs.")] = False,
    as_json: AsJson = False,
) -> None:
    """Dispatch every run that waits for a worker to CGK_BROKER_URL once more.

    For a move to another broker, when the last process that used the old one has ended; and for a broker that lost its
    data, where the search for lost messages would take minutes (RabbitMQ). Safe at any time and to repeat: a run that
    has two messages is executed once. Runs that are not due, run already or are held have no message, and need none.
    """
    from cgk_tasks.flow.rebuild import rebuild_broker, waiting_by_queue

    if dry_run:
        counted = waiting_by_queue()
    else:
        reported = 0

        def progress(runs: int) -> None:
            nonlocal reported
            if runs - reported >= _REPORT_EVERY:
                reported = runs
                say(f"{runs:,} runs ...")

        counted = rebuild_broker(progress)
    rows = [{"queue": queue, "runs": runs} for queue, runs in counted.items()]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, ("queue", "runs"))
    else:
        say("No run waits for a worker.")
