"""`cgk-tasks demo`: real orders of three tenants through real workers."""

from __future__ import annotations

from typing import Annotated

import typer

from cgk_tasks.cli.output import examples

EXAMPLES = examples("cgk-tasks demo", "cgk-tasks demo --keep")


def demo(
    keep: Annotated[
        bool, typer.Option("--keep", help="Leave the services running afterwards, to look around, until Ctrl-C.")
    ] = False,
) -> None:
    """Watch the orders of three tenants run through PostgreSQL, Redis and Celery workers.

    Everything is private to the demo: nothing has to be installed or running.
    """
    from rich.console import Console

    from cgk_tasks.demo import run

    raise typer.Exit(run(Console(), keep=keep))
