"""How an error is shown: what happened, why, and what to do; a traceback only where it is asked for."""

from __future__ import annotations

import errno
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from cgk_tasks.errors import BrokerError, CgkTasksError, ConfigurationError
from cgk_tasks.extras import explain_missing

_wants_traceback = False


def show_tracebacks(wanted: bool) -> None:
    """Whether `report` shows tracebacks; CGK_TRACEBACK=1 in the environment asks for them as well."""
    global _wants_traceback  # noqa: PLW0603 - one command line a process
    _wants_traceback = wanted or os.environ.get("CGK_TRACEBACK", "") not in {"", "0"}


def known(error: Exception) -> CgkTasksError | None:
    """The error as one of ours: itself, or what a driver's error means. None for a fault of the program."""
    if isinstance(error, CgkTasksError):
        return error
    if _comes_from(error, "psycopg", "sqlalchemy"):
        from cgk_tasks.sql import postgres

        explained: CgkTasksError = postgres.explain(error)
    elif isinstance(error, ModuleNotFoundError) and (missing := explain_missing(error)) is not None:
        explained = missing
    elif _comes_from(error, "redis", "kombu"):
        explained = BrokerError(
            f"The broker refused or cannot be reached: {error}.", hint="Check it with: cgk-tasks doctor"
        )
    elif isinstance(error, OSError) and error.filename is not None:
        explained = ConfigurationError(_about_a_file(error))
    else:
        return None
    explained.__cause__ = error
    return explained


@contextmanager
def serving_on(host: str, port: int) -> Iterator[None]:
    """A port that is taken, or an address that is not this machine's, becomes a ConfigurationError."""
    try:
        yield
    except OSError as error:
        if error.errno not in {errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES}:
            raise
        raise ConfigurationError(
            f"{host}:{port} cannot be served on: {os.strerror(error.errno)}. Give another port with --port."
        ) from error


def _about_a_file(error: OSError) -> str:
    hints: dict[int | None, str] = {
        errno.EACCES: " Run the command in a folder that you may write to, or as its owner.",
        errno.EPERM: " Run the command in a folder that you may write to, or as its owner.",
        errno.EROFS: " Run the command in a folder that can be written to.",
        errno.ENOSPC: " Make room, and run it again.",
    }
    name = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else error.filename
    return f"{name}: {error.strerror}.{hints.get(error.errno, '')}"


def _comes_from(error: Exception, *libraries: str) -> bool:
    return any(kind.__module__.partition(".")[0] in libraries for kind in type(error).__mro__)


def report(error: CgkTasksError) -> None:
    """Print `error: ...`, and `hint: ...` where the error says what to do, on stderr."""
    if _wants_traceback:
        traceback.print_exception(error, file=sys.stderr)
    typer.secho("error: ", fg="red", bold=True, err=True, nl=False)
    typer.echo(error.text, err=True)
    for line in [error.hint, *getattr(error, "__notes__", [])]:
        if line:
            typer.secho("hint:  ", fg="cyan", err=True, nl=False)
            typer.echo(line, err=True)
