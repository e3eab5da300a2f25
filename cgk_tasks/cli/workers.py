"""`cgk-tasks workers`: what each worker does now, and draining one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.flow.workers import Worker

commands = typer.Typer(
    help="See what each worker does now; let one take no more runs, and again.",
    epilog=examples(
        "cgk-tasks workers list", "cgk-tasks workers drain celery@worker-3 --reason 'new kernel'",
        "cgk-tasks workers resume celery@worker-3",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

Name = Annotated[str, typer.Argument(metavar="WORKER", help="Its name or id, as `workers list` shows it.")]
_COLUMNS = (
    "worker", "state", "runs", "pool_size", "queues", "memory_mib", "started_at", "silent_seconds", "leads",
    "reason", "id",
)  # fmt: skip


def _row(worker: Worker) -> dict[str, Any]:
    return {
        "worker": worker.name, "state": worker.state, "runs": worker.runs, "pool_size": worker.pool_size,
        "queues": ", ".join(worker.queues), "memory_mib": None if worker.memory is None else worker.memory >> 20,
        "started_at": worker.started_at, "silent_seconds": round(worker.silent_seconds, 1), "leads": worker.leads,
        "reason": worker.drain_reason, "id": worker.id,
    }  # fmt: skip


@commands.command("list", epilog=examples("cgk-tasks workers list", "cgk-tasks workers list --json"))
def list_workers(as_json: AsJson = False) -> None:
    """List the workers, those inside applications and gateways included.

    state: active; to be drained, until its next heartbeat; draining, while it has runs; drained; silent, and soon taken
    for dead. runs: that it has now, of pool_size at once. leads: whether it is the dispatcher. With --json each has its
    processes with their runs.
    """
    from cgk_tasks.flow import workers

    found = workers.list_workers()
    if as_json:
        print_json([{"state": one.state, "runs": one.runs, **dataclasses.asdict(one)} for one in found])
        return
    print_table([_row(one) for one in found], _COLUMNS)
    if not found:
        say("No worker is on record. Start one: celery -A cgk_tasks worker")


@commands.command("drain", epilog=examples("cgk-tasks workers drain celery@worker-3 --reason 'new kernel' --by ops"))
def drain(
    worker: Name,
    reason: Annotated[str | None, typer.Option(help="Why, for those who wonder later.")] = None,
    by: Annotated[str | None, typer.Option(help="Who or what drains it; default: CGK_ACTOR, or you.")] = None,
) -> None:
    """Let a worker take no more runs, within a heartbeat: it finishes those that it has, and goes on as a process."""
    from cgk_tasks.flow import workers
    from cgk_tasks.tenancy.audit import actor

    drained = workers.drain_workers(worker, by=by or actor(), reason=reason or "")
    for one in drained:
        typer.echo(f"{one.name}: takes no more runs, and has {one.runs}")
    names = {one.id for one in drained}
    others = [one for one in workers.list_workers() if one.id not in names and one.state == "active"]
    left = sorted(
        {queue for one in drained for queue in one.queues} - {queue for one in others for queue in one.queues}
    )
    if left:
        say(f"warning: no other worker takes runs of {', '.join(left)}: what is sent there waits.")


@commands.command("resume", epilog=examples("cgk-tasks workers resume celery@worker-3"))
def resume(worker: Name) -> None:
    """Let a worker that is drained take runs again, within a heartbeat."""
    from cgk_tasks.flow import workers

    was_drained = workers.resume_workers(worker)
    typer.echo(f"{worker}: takes runs")
    if not was_drained:
        say("It was not to be drained.")
