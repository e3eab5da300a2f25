"""`cgk-tasks limits`: limits of jobs that are set while everything runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli import guards, values
from cgk_tasks.cli.limit_options import By, Reason, shown_starts, warn_if_not_kept
from cgk_tasks.cli.limit_options import starts as read_starts
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

if TYPE_CHECKING:
    from cgk_tasks.admission.rules import Limit
    from cgk_tasks.flow.job_limits import JobLimit

commands = typer.Typer(
    help="Limits of jobs: see them, set them for a tenant or for all, and who changed what.",
    epilog=examples(
        "cgk-tasks limits set sync-orders --at-once 10 --tenant acme --reason 'their interface is slow'",
        "cgk-tasks limits list", "cgk-tasks limits guards", "cgk-tasks limits remove sync-orders --tenant acme",
        "cgk-tasks limits history",
    ),
    no_args_is_help=True,
    rich_markup_mode=None,
)  # fmt: skip

Job = Annotated[str, typer.Argument(metavar="JOB", help="The job, by its id.")]
Tenant = Annotated[
    str | None, typer.Option("--tenant", metavar="ID", help="For this tenant; without it, for all of them.")
]
AtOnceOption = Annotated[
    int | None, typer.Option("--at-once", metavar="NUMBER", help="How many are on at once, over all workers.")
]
LendTo = Annotated[
    int | None, typer.Option("--lend-to", metavar="NUMBER", help="So many while nobody else waits in the queue.")
]
Starts = Annotated[
    Any, typer.Option("--starts", metavar="COUNT/TIME", parser=read_starts, help="Starts in a time: 100/1m, 5/s.")
]
Burst = Annotated[int, typer.Option("--burst", metavar="NUMBER", help="How many starts may come at once.")]
Per = Annotated[
    Any,
    typer.Option(
        "--per", metavar="WHOM", parser=values.one_of(("tenant", "all")), help="Of each tenant, or of all together."
    ),
]
Key = Annotated[str | None, typer.Option("--key", metavar="FIELD", help="Of each value of this field of the payload.")]
_COLUMNS = ("job", "limit", "per", "key", "tenant", "source", "changed_by", "reason", "changed_at")
_HISTORY = ("at", "who", "via", "action", "subject", "tenant", "change", "reason")


@commands.command("list", epilog=examples("cgk-tasks limits list", "cgk-tasks limits list --job sync-orders --json"))
def list_limits(
    job: Annotated[str | None, typer.Option("--job", metavar="JOB", help="Of this job only.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="ID", help="Set for this tenant only.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the limits of jobs: those that are set, and those of the code, as workers have noted them.

    Those of tenants and plans: cgk-tasks tenants limits ID, cgk-tasks plans list. Guards: cgk-tasks limits guards.
    """
    from cgk_tasks.flow import job_limits

    rows = [_row(one) for one in job_limits.list_limits(job=job, tenant=tenant)]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(rows, _COLUMNS)
    else:
        say("There is none. Set one: cgk-tasks limits set JOB --at-once 5")


def _row(one: JobLimit) -> dict[str, Any]:
    return {
        "job": one.job, "limit": _text(one.limit), "per": one.limit.per, "key": one.limit.key, "tenant": one.tenant_id,
        "source": one.source, "changed_by": one.changed_by or None, "reason": one.reason or None,
        "changed_at": one.changed_at,
    }  # fmt: skip


def _text(limit: Limit) -> str:
    from cgk_tasks.admission.rules import AtOnce

    if isinstance(limit, AtOnce):
        lends = f", lent to {limit.lend_to}" if limit.lend_to is not None else ""
        return f"{limit.limit} at once{lends}"
    return f"{shown_starts((limit.limit, limit.period))}, burst {limit.burst}"


def _limit(at_once: int | None, lend_to: int | None, rate: Any, burst: int, per: str, key: str | None) -> Limit:
    from cgk_tasks.admission.rules import AtOnce, Throttle

    whom: Any = per
    if (at_once is None) == (rate is None):
        raise typer.BadParameter("give --at-once, or --starts, and not both.")
    if rate is None:
        assert at_once is not None
        return AtOnce(at_once, lend_to=lend_to, per=whom, key=key)
    if not isinstance(rate, tuple):
        raise typer.BadParameter("to take a limit away: cgk-tasks limits remove JOB")
    return Throttle(rate[0], every=rate[1], burst=burst, per=whom, key=key)


@commands.command(
    "set",
    epilog=examples(
        "cgk-tasks limits set sync-orders --at-once 10 --tenant acme --reason 'their interface is slow'",
        "cgk-tasks limits set sync-orders --starts 100/1m --burst 10",
    ),
)
def set_limit(
    job: Job,
    at_once: AtOnceOption = None,
    lend_to: LendTo = None,
    starts: Starts = None,
    burst: Burst = 1,
    per: Per = "tenant",
    key: Key = None,
    tenant: Tenant = None,
    by: By = None,
    reason: Reason = "",
) -> None:
    """Limit a job from now on. It takes the place of the limit of the same kind in the code, until it is removed."""
    from cgk_tasks.flow import job_limits
    from cgk_tasks.tenancy.audit import actor

    limit = _limit(at_once, lend_to, starts, burst, per, key)
    job_limits.set_limit(job, limit, tenant=tenant, by=by or actor(), reason=reason)
    whose = f"of {tenant}" if tenant else "of every tenant" if per == "tenant" else "in all"
    typer.echo(f"{job}: {_text(limit)}, {whose}")
    warn_if_not_kept()


@commands.command("remove", epilog=examples("cgk-tasks limits remove sync-orders --tenant acme"))
def remove(job: Job, tenant: Tenant = None, by: By = None, reason: Reason = "") -> None:
    """Take away what was set for a job, of one tenant or of all; the limits of the code count again."""
    from cgk_tasks.flow import job_limits
    from cgk_tasks.tenancy.audit import actor

    number = job_limits.remove_limit(job, tenant=tenant, by=by or actor(), reason=reason)
    typer.echo(f"{job}: {number} {'limit' if number == 1 else 'limits'} removed")
    if not number:
        say("Nothing was set there. What is: cgk-tasks limits list")


@commands.command(
    "history", epilog=examples("cgk-tasks limits history --tenant acme", "cgk-tasks limits history --json")
)
def history(
    subject: Annotated[
        str | None, typer.Option("--subject", metavar="NAME", help="A plan, a tenant, a guard, or a limit by its name.")
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", metavar="ID", help="Of this tenant only.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="So many lines.")] = 100,
    as_json: AsJson = False,
) -> None:
    """Who changed limits, plans and weights, when and why; what was, and what is. The newest first."""
    from cgk_tasks.flow import job_limits

    changes = job_limits.limit_history(subject=subject, tenant=tenant, limit=limit)
    if as_json:
        print_json(changes)
        return
    rows = [
        {
            "at": one.at, "who": one.who, "via": one.via, "action": one.action, "subject": one.subject,
            "tenant": one.tenant_id, "reason": one.reason, "change": _change(one.old, one.new),
        }
        for one in changes
    ]  # fmt: skip
    print_table(rows, _HISTORY)


commands.command("guards", epilog=guards.GUARDS_EXAMPLES)(guards.guards)
commands.command("close-guard", epilog=guards.CLOSE_EXAMPLES)(guards.close_guard)
commands.command("open-guard", epilog=guards.OPEN_EXAMPLES)(guards.open_guard)


def _change(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = sorted({*old, *new})
    return ", ".join(f"{name} {_value(old.get(name))} → {_value(new.get(name))}" for name in names)


def _value(value: Any) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
