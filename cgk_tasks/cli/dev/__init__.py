"""`cgk-tasks dev`: everything that runs need, in one terminal."""

from __future__ import annotations

import os
import signal
from typing import Annotated

import typer

from cgk_tasks.cli.output import examples

EXAMPLES = examples("cgk-tasks dev", "cgk-tasks dev --concurrency 4 --no-flower")


def dev(
    beat: Annotated[bool, typer.Option("--beat/--no-beat", help="Run Celery Beat, for schedules.")] = True,
    flower: Annotated[
        bool, typer.Option("--flower/--no-flower", help="Run the dashboard, with Flower, on 127.0.0.1.")
    ] = True,
    concurrency: Annotated[int, typer.Option("--concurrency", "-c", min=1, help="Jobs at the same time.")] = 2,
    flower_port: Annotated[int, typer.Option(help="The dashboard's port; another one where it is taken.")] = 5555,
) -> None:
    """Start a private PostgreSQL and Redis, migrate, and run a worker that reloads when code that your jobs import
    changes.

    The services keep their data in .cgk/ in the working folder, and are left out where CGK_DATABASE_URL and
    CGK_BROKER_URL name your own. Ctrl-C stops everything.
    """
    from cgk_tasks.cli.dev.session import Plan, run

    # SIGTERM while the services start interrupts that in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["PYTHONUNBUFFERED"] = "1"
    run(Plan(beat=beat, flower=flower, concurrency=concurrency, flower_port=flower_port))
