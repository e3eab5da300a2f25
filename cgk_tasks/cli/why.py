"""`cgk-tasks why RUN`: what holds an open run."""

from __future__ import annotations

from typing import Annotated

import typer

from cgk_tasks.cli.output import AsJson, examples, print_json, say

EXAMPLES = examples("cgk-tasks why ID", "cgk-tasks why ID --json")


def why(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    as_json: AsJson = False,
) -> None:
    """Say why an open run does not go on: not due, tenant suspended, queue paused, over a limit, no worker, broker
    down, behind others in its queue.

    The most important reason comes first, each with what to do about it.
    """
    from cgk_tasks.monitoring.why import why as find_out

    found = find_out(run_id)
    if as_json:
        print_json(found)
        return
    say(f"{found.run_id}: {found.state}")
    for gate in found.gates:
        typer.echo(gate.text)
        if gate.hint:
            typer.echo(f"  {gate.hint}")
