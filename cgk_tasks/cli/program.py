"""The tree of commands, and the one place where their errors end.

To add a command: write `cgk_tasks/cli/NAME.py`, add one line to the tree below, and write the reference page anew with
`python -m cgk_tasks.cli.reference`. A module of a command imports the library inside its functions, so that
`cgk-tasks --help` stays quick.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from cgk_tasks.cli import (
    admin,
    bridge,
    broker,
    catalog,
    dashboard,
    demo,
    deploy,
    dev,
    doctor,
    events,
    exits,
    failures,
    gateway,
    keys,
    limits,
    metrics,
    migrate,
    migrate_check,
    pauses,
    plans,
    queues,
    runs,
    schedules,
    secrets,
    send,
    setup,
    tenants,
    webhooks,
    why,
    workers,
    workflows,
)
from cgk_tasks.cli.output import examples, log_to_stderr, write_in_any_locale

program = typer.Typer(
    name="cgk-tasks",
    help="Background jobs for multi-tenant products. Data goes to stdout, everything else to stderr.",
    epilog=examples(
        "cgk-tasks demo",
        "cgk-tasks dev",
        "cgk-tasks COMMAND --help",
        more="Exit codes: 0 done, 1 failed, 2 wrong usage.",
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

program.command("demo", epilog=demo.EXAMPLES)(demo.demo)
program.add_typer(setup.commands, name="setup")
program.command("setup:jobs", epilog=setup.EXAMPLES, hidden=True)(setup.jobs)
program.command("dev", epilog=dev.EXAMPLES)(dev.dev)
program.command("migrate", epilog=migrate.EXAMPLES)(migrate.migrate)
program.command("migrate-check", epilog=migrate_check.EXAMPLES)(migrate_check.migrate_check)
program.add_typer(deploy.commands, name="deploy")
program.command("send", epilog=send.EXAMPLES)(send.send)
program.add_typer(runs.commands, name="runs")
program.command("why", epilog=why.EXAMPLES)(why.why)
program.add_typer(workflows.commands, name="workflows")
program.add_typer(tenants.commands, name="tenants")
program.add_typer(plans.commands, name="plans")
program.add_typer(limits.commands, name="limits")
program.command("pause", epilog=pauses.PAUSE_EXAMPLES)(pauses.pause)
program.command("resume", epilog=pauses.RESUME_EXAMPLES)(pauses.resume)
program.command("pauses", epilog=pauses.PAUSES_EXAMPLES)(pauses.list_pauses)
program.add_typer(queues.commands, name="queues")
program.add_typer(workers.commands, name="workers")
program.add_typer(broker.commands, name="broker")
program.add_typer(bridge.commands, name="bridge")
program.add_typer(events.commands, name="events")
program.add_typer(schedules.commands, name="schedules")
program.add_typer(catalog.commands, name="catalog")
program.add_typer(webhooks.commands, name="webhooks")
program.add_typer(secrets.commands, name="secrets")
program.add_typer(keys.commands, name="keys")
program.command("gateway", epilog=gateway.EXAMPLES)(gateway.gateway)
program.command("admin", epilog=admin.EXAMPLES)(admin.admin)
program.command("metrics", epilog=metrics.EXAMPLES)(metrics.metrics)
program.add_typer(dashboard.commands, name="dashboard")
program.command("doctor", epilog=doctor.EXAMPLES)(doctor.doctor)


def _print_version(wanted: bool) -> None:
    if wanted:
        from cgk_tasks import __version__

        typer.echo(__version__)
        raise typer.Exit


@program.callback()
def _options(
    context: typer.Context,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", help="Show the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    failures.show_tracebacks(verbose)
    log_to_stderr()
    from cgk_tasks.tenancy.audit import by_command_line

    context.with_resource(by_command_line())


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line (default: that of this process) and exit with its code."""
    write_in_any_locale()
    try:
        # Job modules live in the working folder, as for `celery -A`.
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        program(args=arguments, prog_name="cgk-tasks")
    except BrokenPipeError:
        _leave_closed_pipe()
    except Exception as error:
        known = failures.known(error)
        if known is None:
            raise
        failures.report(known)
        sys.exit(exits.FAILED)
    sys.exit(exits.DONE)


def _leave_closed_pipe() -> NoReturn:
    """Whoever read our output (`| head`) has seen enough: end without a word, and without one at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(exits.FAILED)
