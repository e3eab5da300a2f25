"""`cgk-tasks setup jobs`: from nothing to a job that has run."""

from __future__ import annotations

import signal
from enum import StrEnum
from typing import Annotated

import typer

from cgk_tasks.cli import failures, values
from cgk_tasks.cli.output import examples, say
from cgk_tasks.cli.setup.failure import INTERRUPTED, SERVER, SETTING, TRIAL, SetupFailure
from cgk_tasks.errors import BrokerError, ConfigurationError, EmbeddedError, ProviderError, StoreError

commands = typer.Typer(
    help="Set up the working folder.",
    epilog=examples("cgk-tasks setup jobs"),
    no_args_is_help=True,
    rich_markup_mode=None,
)

EXAMPLES = examples(
    "cgk-tasks setup jobs",
    "cgk-tasks setup jobs --non-interactive --provider celery",
    "cgk-tasks setup:jobs --verify-only || echo broken",
    more="Exit codes: 0 a job has run (of inngest and trigger.dev: they know the keys), 1 failed otherwise, 2 "
    f"wrong usage, {SETTING} a setting is missing or wrong, "
    f"{SERVER} a server cannot be used, {TRIAL} the test run did not complete, {INTERRUPTED} Ctrl-C.",
)


class Provider(StrEnum):
    """What `--provider` takes."""

    CELERY = "celery"
    LOCAL = "local"
    INNGEST = "inngest"
    TRIGGER_DEV = "trigger.dev"


def _provider(name: str) -> Provider:
    return Provider(values.one_of([one.value for one in Provider])(name))


@commands.command("jobs", epilog=EXAMPLES)
def jobs(
    provider: Annotated[
        Provider | None,
        typer.Option(help="Where jobs run.", metavar="[celery|local|inngest|trigger.dev]", parser=_provider),
    ] = None,
    verify_only: Annotated[
        bool, typer.Option("--verify-only", help="Ask nothing and write no file: check, and run a test event.")
    ] = False,
    skip_env: Annotated[bool, typer.Option("--skip-env", help="Do not write .env.local.")] = False,
    non_interactive: Annotated[
        bool, typer.Option("--non-interactive", help="Ask nothing: private servers where none are configured.")
    ] = False,
) -> None:
    """Configure jobs in this folder, and prove with a real worker that they run.

    Also spelt cgk-tasks setup:jobs. Asks only for what neither the environment nor .env.local has, writes .env.local
    (with a new key to encrypt secrets, for servers of your own), a module with a first job and a celeryconfig.py, makes
    the tables, and shows the run of a test event. Safe to repeat.
    """
    from cgk_tasks.cli.setup.wizard import Options, run

    # SIGTERM stops in order whatever was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run(Options(provider and provider.value, verify_only, skip_env, may_ask=not non_interactive))
    except (KeyboardInterrupt, EOFError):
        say("\nStopped. Run it again at any time: cgk-tasks setup jobs")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        known = failures.known(error)
        if known is None:
            raise
        failures.report(known)
        raise typer.Exit(_exit_code(known)) from error


def _exit_code(error: Exception) -> int:
    if isinstance(error, SetupFailure):
        return error.exit_code
    if isinstance(error, ConfigurationError):
        return SETTING
    return SERVER if isinstance(error, EmbeddedError | StoreError | BrokerError | ProviderError) else 1
