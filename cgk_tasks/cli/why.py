"""`cgk-tasks why RUN`: what holds an open run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cgk_tasks.cli.output import AsJson, examples, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cgk_tasks.monitoring.why_gates import Gate

EXAMPLES = examples("cgk-tasks why ID", "cgk-tasks why ID --json", "cgk-tasks why --tenant acme")


def why(
    run_id: Annotated[str | None, typer.Argument(metavar="ID", help="The run's id.")] = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="ID", help="Of all open runs of this tenant, summed up.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say why an open run does not go on: not due, tenant suspended, queue paused, over a limit, no worker, broker
    down, behind others in its queue. And when it is expected to start, where that can be estimated.

    The most important reason comes first, each with what to do about it.
    """
    if (run_id is None) == (tenant is None):
        raise typer.BadParameter("give the id of a run, or --tenant.")
    if tenant is not None:
        _of_tenant(tenant, as_json=as_json)
        return
    assert run_id is not None
    from cgk_tasks.monitoring.why import why as find_out

    found = find_out(run_id)
    if as_json:
        print_json(found)
        return
    say(f"{found.run_id}: {found.state}")
    _print(found.gates, found.expected_at)


def _print(gates: Sequence[Gate], expected_at: datetime | None) -> None:
    from cgk_tasks.monitoring.why_gates import expected_text

    for gate in gates:
        typer.echo(gate.text)
        if gate.hint:
            typer.echo(f"  {gate.hint}")
    if expected_at is not None:
        typer.echo(expected_text(expected_at))


def _of_tenant(tenant_id: str, *, as_json: bool) -> None:
    from cgk_tasks.monitoring.why_tenant import why_tenant

    found = why_tenant(tenant_id)
    if as_json:
        print_json(found)
        return
    say(f"{tenant_id}: {found.runs:,} open {'run' if found.runs == 1 else 'runs'}")
    for kind in found.kinds:
        runs = f"{kind.runs:,} {kind.state} in queue {kind.queue!r}"
        typer.echo(f"\n{runs}; the first, {kind.example}:")
        _print(kind.gates, kind.expected_at)
