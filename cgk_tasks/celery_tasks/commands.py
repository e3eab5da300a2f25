"""`celery -A cgk_tasks call NAME --tenant acme`, `... result ID --task NAME`, `... purge` and `... control revoke ID`:
Celery's commands, with a tenant, with the modules of CGK_JOB_MODULES, which `-A cgk_tasks` does not import, and on the
record of runs.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import wraps
from typing import Any

import click

from cgk_tasks.celery_tasks import purging
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.tenancy.context import tenant_context


def extend_commands() -> None:
    """Where this process is the command `celery`: give `call` the option --tenant, `result` the application's tasks,
    let `purge` and `control revoke` cancel runs, and have every command say in a sentence what cgk_tasks refuses.

    Celery loads an app before it reads the options of a subcommand, so the app may still add to them.
    """
    celery_command = sys.modules.get("celery.bin.celery")
    commands: Any = celery_command.celery.commands if celery_command else {}
    call, result = commands.get("call"), commands.get("result")
    if call is None or any(option.name == "tenant" for option in call.params):
        return
    from celery.bin.base import CeleryOption

    given: Any = {"help_group": "Calling Options"}
    call.params.append(
        CeleryOption(["--tenant"], help="The tenant: a task needs one, an event names its own.", **given)
    )
    call.callback = _for_tenant(call.callback)
    result.callback = _with_tasks(result.callback)
    commands["purge"].callback = _purge
    commands["control"].callback = _with_runs_revoked(commands["control"].callback)
    for command in commands.values():
        # The settings are read while the options are.
        command.make_context = _with_readable_errors(command.make_context)
        command.invoke = _with_readable_errors(command.invoke)


@click.pass_context
def _purge(
    context: click.Context,
    /,
    force: bool,
    queues: list[str] | None,
    exclude_queues: list[str] | None,
    **_preload_options: Any,
) -> None:
    """Celery's own would remove the messages, and the runs would be dispatched again."""
    app = context.obj.app
    app.loader.import_default_modules()
    names = sorted(set(queues or app.amqp.queues) - set(exclude_queues or ()))
    if not names:
        return
    if not force:
        click.confirm(f"This cancels every run that waits in: {', '.join(names)}. Go on?", abort=True)
    cancelled = purging.purge(app, names)
    context.obj.echo(f"Cancelled {cancelled} {'run' if cancelled == 1 else 'runs'} in: {', '.join(names)}.")


def _with_runs_revoked(tell_workers: Any) -> Any:
    """Celery's own tells the workers alone, and whether a run is cancelled is on record. They still reply."""

    @wraps(tell_workers)
    def control(*args: Any, command: str, **options: Any) -> Any:
        context = click.get_current_context()
        if command in {"revoke", "terminate"}:
            own = context.obj.app
            own.loader.import_default_modules()
            terminates = command == "terminate"
            ids = context.args[1:] if terminates else context.args  # after the signal
            own.control.revoke(list(ids), terminate=terminates)
        return tell_workers(*args, command=command, **options)

    return control


def _with_tasks(command: Any) -> Any:
    """Exceptions and tasks are known by their modules alone."""

    @wraps(command)
    def look(*args: Any, **options: Any) -> Any:
        click.get_current_context().obj.app.loader.import_default_modules()
        return command(*args, **options)

    return look


def _for_tenant(command: Any) -> Any:
    @wraps(command)
    def send(*args: Any, tenant: str | None = None, **options: Any) -> Any:
        with nullcontext() if tenant is None else tenant_context(tenant):
            return command(*args, **options)

    return send


def _with_readable_errors(step: Any) -> Any:
    """A setting or an option that is refused is no fault of the program, which a traceback would look like."""

    @wraps(step)
    def take(*args: Any, **options: Any) -> Any:
        try:
            return step(*args, **options)
        except CgkTasksError as exc:
            raise click.ClickException(str(exc)) from exc

    return take
