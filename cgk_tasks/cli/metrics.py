"""`cgk-tasks metrics`: the exporter for Prometheus."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from cgk_tasks.cli.output import examples, say
from cgk_tasks.extras import require_extra

EXAMPLES = examples("cgk-tasks metrics", "CGK_EXPORTER=0.0.0.0:9808 cgk-tasks metrics", "cgk-tasks metrics --once")


def metrics(
    once: Annotated[bool, typer.Option("--once", help="Print the metrics and exit.")] = False,
) -> None:
    """Serve what PostgreSQL knows about runs, workers and schedules to Prometheus, on CGK_EXPORTER, until Ctrl-C.

    Workers serve their own counters where CGK_METRICS_ADDRESS is set.
    """
    require_extra("worker", "The command metrics")
    from cgk_tasks.config import get_settings
    from cgk_tasks.monitoring import exporter

    get_settings().database  # noqa: B018 - raises when there is none
    if once:
        typer.echo(exporter.exposition(), nl=False)
        return
    host, _port = exporter.address()
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    exporter.serve(stopping, lambda port: say(f"http://{host}:{port}/metrics until Ctrl-C"))
