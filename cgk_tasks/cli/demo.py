"""`cgk-tasks demo`: real orders of three tenants through real workers."""

from __future__ import annotations

from typing import Annotated

import typer

from cgk_tasks.cli.output import examples
from cgk_tasks.extras import require_extra

EXAMPLES = examples("cgk-tasks demo", "cgk-tasks demo --keep")


def demo(
    keep: Annotated[
        bool,
        typer.Option("--keep", help="Use the services of .cgk/ in the working folder, whose data stays."),
    ] = False,
) -> None:
    """Watch the orders of three tenants run through PostgreSQL, Redis and Celery workers.

    Nothing has to be installed or running: the services are private to the demo.
    """
    from rich.console import Console

    require_extra("embedded", "The demo")
    from cgk_tasks.demo import run

    raise typer.Exit(run(Console(), keep=keep))
