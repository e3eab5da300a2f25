"""`cgk-tasks queues`: what waits in each queue, and holding one."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say
from cgk_tasks.config.nearest import did_you_mean

if TYPE_CHECKING:
    from cgk_tasks.flow.queues import Queue

commands = typer.Typer(
    help="See what waits in each queue; pause and resume queues.",
    epilog=examples(
        "cgk-tasks queues list", "cgk-tasks queues pause emails --reason 'the mail server is down'",
        "cgk-tasks queues resume emails",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

Name = Annotated[str, typer.Argument(metavar="NAME", help="The queue, as `queues list` shows it.")]
_COLUMNS = (
    "queue", "state", "waiting", "oldest_seconds", "running", "held", "later", "workers", "paused_at", "paused_by",
    "reason",
)  # fmt: skip


def _row(queue: Queue) -> dict[str, Any]:
    values = {name: getattr(queue, name) for name in _COLUMNS if name != "state"}
    values["oldest_seconds"] = None if queue.oldest_seconds is None else round(queue.oldest_seconds, 1)
    return {"queue": queue.queue, "state": "paused" if queue.is_paused else "active"} | values


@commands.command("list", epilog=examples("cgk-tasks queues list", "cgk-tasks queues list --json"))
def list_queues(as_json: AsJson = False) -> None:
    """List every queue that has open runs or living workers, is paused, or is named by the settings.

    oldest_seconds: since when the oldest of its waiting and held runs has been due. later: runs that are scheduled, or
    wait for their next attempt. workers: those alive that listen to it.
    """
    from cgk_tasks.flow import queues

    rows = [_row(queue) for queue in queues.list_queues()]
    if as_json:
        print_json(rows)
    else:
        print_table(rows, _COLUMNS)


@commands.command("pause", epilog=examples("cgk-tasks queues pause emails --reason 'the mail server is down' --by ops"))
def pause(
    name: Name,
    reason: Annotated[str | None, typer.Option(help="Why, for those who wonder later.")] = None,
    by: Annotated[str | None, typer.Option(help="Who or what pauses it; default: CGK_ACTOR, or you.")] = None,
    as_json: AsJson = False,
) -> None:
    """Hold a queue's runs: nothing new starts, on any worker; what is sent waits until it is resumed."""
    from cgk_tasks.flow import queues
    from cgk_tasks.tenancy.audit import actor

    made = queues.pause_queue(name, by=by or actor(), reason=reason or "")
    if as_json:
        print_json(made)
    else:
        typer.echo(
            f"{made.queue}: paused since {made.paused_at.astimezone():%Y-%m-%d %H:%M:%S %Z} by {made.paused_by or '?'}"
        )
    known = {queue.queue: queue for queue in queues.list_queues()}
    here = known.pop(name, None)
    if here is not None and not (here.workers or here.waiting or here.running or here.held or here.later):
        hint = did_you_mean(name, known) or (f" There are: {', '.join(sorted(known))}." if known else "")
        say(f"warning: no worker listens to {name!r}, and no run is in it.{hint}")
        say(f"To resume it: cgk-tasks queues resume {shlex.quote(name)}")


@commands.command("resume", epilog=examples("cgk-tasks queues resume emails"))
def resume(name: Name) -> None:
    """Let a paused queue's runs go on. Those of suspended tenants stay held."""
    from cgk_tasks.flow import queues

    was_paused = queues.resume_queue(name)
    typer.echo(f"{name}: active")
    if not was_paused:
        paused = ", ".join(pause.queue for pause in queues.paused_queues())
        say(f"It was not paused. Paused are: {paused}" if paused else "It was not paused; no queue is.")
