"""`cgk-tasks runs follow`: what a run does, while it does it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final, Protocol

import typer

from cgk_tasks.cli import application, exits
from cgk_tasks.cli.output import AsJson, out, print_json_line, say
from cgk_tasks.cli.run_details import log_line

if TYPE_CHECKING:
    from cgk_tasks.runs.logs import LogLine
    from cgk_tasks.runs.models import RunStatus

_EVERY_SECONDS: Final = 0.5


class _Screen(Protocol):
    def show(self, status: RunStatus, message: str, lines: Sequence[LogLine]) -> None: ...
    def close(self) -> None: ...


def follow(
    run_id: Annotated[str, typer.Argument(metavar="ID", help="The run's id.")],
    timeout: Annotated[float | None, typer.Option(metavar="SECONDS", min=0, help="Give up after so long.")] = None,
    as_json: AsJson = False,
) -> None:
    """Follow a run until it ends: its state, its progress as a bar, and what its job logs.

    The exit code is 0 if it completed. With --json, a line for each change. Personal data is redacted.
    """
    from cgk_tasks.events.redaction import Redaction

    application.load_jobs()
    status = application.client().get_run_status(run_id)
    hide = Redaction(status.event, status.payload)
    screen: _Screen = _Lines() if as_json else _Bar() if out().is_terminal else _Text()
    try:
        for status, lines in _changes(run_id, timeout):
            screen.show(status, hide.text(status.progress.message) if status.progress else "", lines)
    finally:
        screen.close()
    if not status.is_closed:
        say(f"The run is still {status.state} after {timeout:g} s.")
    if status.state != "completed":
        raise typer.Exit(exits.FAILED)


def _changes(run_id: str, timeout: float | None) -> Iterator[tuple[RunStatus, list[LogLine]]]:
    """The run whenever something has changed, and the lines that are new."""
    from cgk_tasks.runs import logs

    client = application.client()
    give_up = None if timeout is None else time.monotonic() + timeout
    seen, before = 0, None
    while True:
        status = client.get_run_status(run_id)
        lines = logs.lines(run_id)
        change = (status.state, status.attempt, status.progress, len(lines))
        if change != before:
            yield status, lines[seen:]
            seen, before = len(lines), change
        if status.is_closed or (give_up is not None and time.monotonic() >= give_up):
            return
        time.sleep(_EVERY_SECONDS)


def amount(status: RunStatus) -> str:
    """How far it is, in figures."""
    if (told := status.progress) is None:
        return ""
    if told.total is None or told.share is None:
        return f"{told.done:g}"
    return f"{told.done:g} of {told.total:g} ({told.share:.0%})"


class _Lines:
    """JSON, for programs."""

    def show(self, status: RunStatus, message: str, lines: Sequence[LogLine]) -> None:
        told: dict[str, Any] | None = None
        if shown := status.progress:
            told = {"done": shown.done, "total": shown.total, "message": message, "at": shown.at}
        print_json_line({
            "id": status.id, "state": status.state, "attempt": status.attempt, "error_code": status.error_code,
            "progress": told, "log": lines,
        })  # fmt: skip

    def close(self) -> None: ...


class _Text:
    """Lines, where there is no terminal."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, status: RunStatus, message: str, lines: Sequence[LogLine]) -> None:
        for line in lines:
            typer.echo(log_line(line))
        text = "  ".join(part for part in (_state_of(status), amount(status), message) if part)
        if text != self._shown:
            typer.echo(text)
        self._shown = text

    def close(self) -> None: ...


class _Bar:
    """A bar below the lines, on a terminal."""

    def __init__(self) -> None:
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._escape = escape
        columns = (
            TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[amount]}"),
            TextColumn("{task.fields[message]}"), TimeElapsedColumn(),
        )  # fmt: skip
        self._bars = Progress(*columns, console=out())
        self._task = self._bars.add_task("", total=None, amount="", message="")
        self._bars.start()

    def show(self, status: RunStatus, message: str, lines: Sequence[LogLine]) -> None:
        for line in lines:
            self._bars.console.print(log_line(line), markup=False, highlight=False)
        told = status.progress
        is_done = status.state == "completed"
        self._bars.update(
            self._task, description=_state_of(status), amount=amount(status), message=self._escape(message),
            completed=1.0 if is_done else (told.share or 0.0) if told else 0.0,
            total=1.0 if is_done or (told is not None and told.total is not None) else None,
        )  # fmt: skip

    def close(self) -> None:
        self._bars.stop()


def _state_of(status: RunStatus) -> str:
    code = f" {status.error_code}" if status.error_code else ""
    return f"{status.state}{code}" if status.attempt <= 1 else f"{status.state}{code}, attempt {status.attempt}"
