"""`cgk-tasks pause`, `resume` and `pauses`: let nothing of a queue, a tenant or a job start."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from typing import Annotated, Any

import typer

from cgk_tasks.cli import values
from cgk_tasks.cli.limit_options import By, Reason, warn_if_not_kept
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

PAUSE_EXAMPLES = examples(
    "cgk-tasks pause --job sync-orders --tenant acme --reason 'their interface is down'",
    "cgk-tasks pause --queue emails --for 2h", "cgk-tasks pause --tenant acme --job report.wanted --drop",
)  # fmt: skip
RESUME_EXAMPLES = examples("cgk-tasks resume --job sync-orders --tenant acme", "cgk-tasks resume --queue emails")
PAUSES_EXAMPLES = examples("cgk-tasks pauses", "cgk-tasks pauses --json")

Queue = Annotated[str | None, typer.Option("--queue", metavar="NAME", help="Of this queue.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="ID", help="Of this tenant.")]
Job = Annotated[str | None, typer.Option("--job", metavar="JOB", help="Of this job, or event.")]
Until = Annotated[
    Any,
    typer.Option("--until", metavar="TIME", parser=values.time, help="When it ends by itself: ISO 8601 with a zone."),
]
For = Annotated[
    Any, typer.Option("--for", metavar="DURATION", parser=values.duration, help="After how long: 30m, 2h, 1d.")
]
Drop = Annotated[bool, typer.Option("--drop", help="Cancel what waits, with the code PAUSED, in place of holding it.")]
_COLUMNS = ("queue", "tenant", "event", "mode", "until", "paused_at", "paused_by", "reason")


def pause(
    queue: Queue = None,
    tenant: Tenant = None,
    job: Job = None,
    drop: Drop = False,
    until: Until = None,
    duration: For = None,
    by: By = None,
    reason: Reason = "",
    as_json: AsJson = False,
) -> None:
    """Let nothing start of a queue, a tenant, a job, or of what is all of those that are given. What runs goes on."""
    from cgk_tasks.flow import pauses
    from cgk_tasks.tenancy.audit import actor

    if until is not None and duration is not None:
        raise typer.BadParameter("give --until or --for, and not both.")
    ends = datetime.now(UTC) + duration if duration is not None else until
    made = pauses.pause(
        queue, tenant=tenant, job=job, mode="drop" if drop else "hold", until=ends, by=by or actor(), reason=reason
    )
    if as_json:
        print_json(made)
    else:
        ends_at = f" until {made.until.astimezone():%Y-%m-%d %H:%M:%S %Z}" if made.until is not None else ""
        typer.echo(f"paused{ends_at}: {made.subject}{', and what waits is cancelled' if drop else ''}")
    warn_if_not_kept()


def resume(queue: Queue = None, tenant: Tenant = None, job: Job = None, by: By = None, reason: Reason = "") -> None:
    """End the pause of exactly these. What waits goes on within seconds."""
    from cgk_tasks.flow import pauses
    from cgk_tasks.tenancy.audit import actor

    if pauses.resume(queue, tenant=tenant, job=job, by=by or actor(), reason=reason):
        typer.echo("resumed")
        return
    others = "; ".join(one.subject for one in pauses.list_pauses())
    typer.echo("not paused")
    say(f"Paused are: {others}" if others else "Nothing is paused.")


def list_pauses(as_json: AsJson = False) -> None:
    """List what is paused: who did it, when, why, and until when. Suspended tenants: cgk-tasks tenants list."""
    from cgk_tasks.flow import pauses

    found = pauses.list_pauses()
    if as_json:
        print_json(found)
    elif found:
        print_table([dataclasses.asdict(one) | {"tenant": one.tenant_id} for one in found], _COLUMNS)
    else:
        say("Nothing is paused.")
