"""`celery -A cgk_tasks flower` serves our dashboard, with Flower beside it."""

from __future__ import annotations

import sys
from typing import Any

import click

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.extras import require_extra


@click.pass_context
def _serve(context: click.Context, /, tornado_argv: tuple[str, ...], **_preload_options: Any) -> None:
    require_extra("dashboard", "The dashboard")
    from cgk_tasks.dashboard.serving import serve

    try:
        serve(context.obj.app, tornado_argv, quiet=context.obj.quiet)
    except ConfigurationError as exc:
        raise click.ClickException(str(exc)) from exc


def replace_flower_command() -> None:
    """Where this process is the command `celery`, let its subcommand `flower` serve the dashboard. Imports nothing.

    Celery loads an app after its plugins' commands, and before it runs one: so the app may replace what a command does,
    as Celery itself does to take its own options from them.
    """
    celery_command = sys.modules.get("celery.bin.celery")
    flower = celery_command.celery.commands.get("flower") if celery_command else None
    if flower is not None:
        flower.callback = _serve
