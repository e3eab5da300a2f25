"""`cgk-tasks limits guards`, `close-guard` and `open-guard`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cgk_tasks.cli.limit_options import By, Reason, warn_if_not_kept
from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say
from cgk_tasks.cli.pauses import For, Until

if TYPE_CHECKING:
    from cgk_tasks.flow.guards import GuardStatus

GUARDS_EXAMPLES = examples("cgk-tasks limits guards", "cgk-tasks limits guards --guard shopify --json")
CLOSE_EXAMPLES = examples("cgk-tasks limits close-guard shopify --for 2h --reason 'their maintenance' --by ada")
OPEN_EXAMPLES = examples("cgk-tasks limits open-guard shopify --by ada")

Name = Annotated[str, typer.Argument(metavar="GUARD", help="The guard, by its name.")]
Tenant = Annotated[str | None, typer.Option("--tenant", metavar="ID", help="Of this tenant, if it is per tenant.")]
_COLUMNS = ("guard", "tenant", "state", "limit", "most", "opens_at", "cause", "asked", "failed", "reason")


def guards(
    name: Annotated[str | None, typer.Option("--guard", metavar="GUARD", help="This one only.")] = None,
    tenant: Tenant = None,
    as_json: AsJson = False,
) -> None:
    """List the guards: whether each is open, how many runs may use it at once now, and when it opens.

    Of a guard per tenant those tenants are listed for which it is not as it is declared.
    """
    from cgk_tasks.flow.guards import list_guards

    found = list_guards(name, tenant=tenant)
    if as_json:
        print_json(found)
    elif found:
        print_table([_row(one) for one in found], _COLUMNS)
    else:
        say('There is none. A job uses one that is declared with define_guard("partner", at_once=20).')


def _row(one: GuardStatus) -> dict[str, Any]:
    return {
        "guard": one.name, "tenant": one.tenant_id, "state": one.state, "limit": one.limit, "most": one.most,
        "opens_at": one.opens_at, "cause": one.cause, "asked": one.asked, "failed": one.failed,
        "reason": one.reason or None,
    }  # fmt: skip


def close_guard(
    name: Name, tenant: Tenant = None, until: Until = None, duration: For = None, by: By = None, reason: Reason = ""
) -> None:
    """Let no run that uses the guard start, until somebody opens it, or a time. What runs goes on."""
    from cgk_tasks.flow import guards as flow
    from cgk_tasks.tenancy.audit import actor

    if until is not None and duration is not None:
        raise typer.BadParameter("give --until or --for, and not both.")
    ends = datetime.now(UTC) + duration if duration is not None else until
    made = flow.close_guard(name, tenant=tenant, until=ends, by=by or actor(), reason=reason)
    ends_at = f" until {made.opens_at.astimezone():%Y-%m-%d %H:%M:%S %Z}" if made.opens_at is not None else ""
    typer.echo(f"{name}: closed{ends_at}")
    warn_if_not_kept()


def open_guard(name: Name, tenant: Tenant = None, by: By = None, reason: Reason = "") -> None:
    """Open a guard, whatever has closed it, for as many runs at once as are declared."""
    from cgk_tasks.flow import guards as flow
    from cgk_tasks.tenancy.audit import actor

    made = flow.open_guard(name, tenant=tenant, by=by or actor(), reason=reason)
    typer.echo(f"{name}: open, {made.limit} at once")
