"""`cgk-tasks gateway`: the HTTP API."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from cgk_tasks.cli import exits, failures
from cgk_tasks.cli.output import examples, json_text, say
from cgk_tasks.extras import require_extra

EXAMPLES = examples(
    "cgk-tasks gateway",
    "cgk-tasks gateway --host 0.0.0.0 --port 8080",
    "cgk-tasks gateway --with-worker --concurrency 8",
    "cgk-tasks gateway --openapi openapi.json",
    more="An application of FastAPI or Starlette can mount it: cgk_tasks.gateway.application().",
)


def gateway(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 for all.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 for any.")] = 8080,
    openapi: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the OpenAPI document to this file (-: stdout), and exit.")
    ] = None,
    with_worker: Annotated[
        bool, typer.Option("--with-worker", help="Run jobs as well, in threads of this process.")
    ] = False,
    concurrency: Annotated[int, typer.Option(min=1, help="How many jobs run at once, with --with-worker.")] = 4,
) -> None:
    """Serve the HTTP API until Ctrl-C: send events, read, cancel, replay and signal runs, with keys of tenants.

    Keys are made with `cgk-tasks keys create`. It speaks plain HTTP: put it behind a proxy that speaks TLS.
    """
    require_extra("gateway", "The HTTP gateway")
    if openapi is not None:
        _describe(openapi)
        return
    from cgk_tasks.gateway.serving import serve
    from cgk_tasks.in_process import embedded_worker
    from cgk_tasks.monitoring.logging import configure_logging

    configure_logging()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: sys.exit(exits.DONE))
    shown = f"[{host}]" if ":" in host else host
    worker = embedded_worker(concurrency) if with_worker else nullcontext()
    with failures.serving_on(host, port), worker:
        serve(host, port, lambda listening: say(f"http://{shown}:{listening}/v1 until Ctrl-C"))


def _describe(file: Path) -> None:
    from cgk_tasks.cli.application import load_jobs
    from cgk_tasks.gateway.description import openapi

    load_jobs()
    text = json_text(openapi())
    if str(file) == "-":
        typer.echo(text)
    else:
        file.write_text(f"{text}\n", encoding="utf-8")
        say(f"written: {file}")
