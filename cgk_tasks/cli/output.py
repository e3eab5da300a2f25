"""Printing: data on stdout, diagnosis on stderr, tables for people and JSON for machines."""

from __future__ import annotations

import codecs
import dataclasses
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

# What is piped into a file or another program is not cut to the width of a terminal.
_PIPED_WIDTH = 300

_NEVER_CUT = {"id", "age", "replay_of", "state", "wire", "event"}
_SENTENCES = {"meaning", "message", "outcome"}

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would happen, and do nothing.")]

STATE_STYLES: Mapping[str, str] = {
    "scheduled": "blue",
    "pending": "cyan",
    "held": "yellow",
    "running": "bold cyan",
    "retrying": "yellow",
    "completed": "green",
    "failed": "red",
    "cancelled": "magenta",
    "expired": "magenta",
    "unhandled": "yellow",
    "active": "green",
    "suspended": "yellow",
    "paused": "yellow",
}


def write_in_any_locale() -> None:
    """What stdout and stderr cannot encode is written with a backslash instead of ending the command; stdin is
    UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(
            stream, io.TextIOWrapper
        ):  # a test, or another program's console, may have put something else there
            stream.reconfigure(errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(encoding="utf-8", errors="strict")


def examples(*lines: str, more: str = "") -> str:
    """The end of a help page, with its lines kept as they are."""
    shown = "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
    return f"{shown}\n\n{more}" if more else shown


def out() -> Console:
    """The console of data."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH, highlight=False)


def err() -> Console:
    """The console of everything that is not data."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A line for the person at the terminal, on stderr."""
    typer.echo(text, err=True)


def print_json(data: Any) -> None:
    """Indented JSON; dataclasses and times are written as JSON objects and ISO 8601."""
    typer.echo(json_text(data))


def print_json_line(data: Any) -> None:
    """One of several values, on a line of its own, which whoever reads has at once."""
    typer.echo(json_text(data, indent=None))
    sys.stdout.flush()


def json_text(data: Any, indent: int | None = 2) -> str:
    """JSON, indented unless indent is None; characters that stdout cannot write are escaped as JSON has it."""
    only_ascii = codecs.lookup(sys.stdout.encoding or "ascii").name != "utf-8"
    return json.dumps(data, indent=indent, ensure_ascii=only_ascii, default=_plain)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return str(value)


def print_table(rows: Sequence[Mapping[str, Any]], columns: Iterable[str]) -> None:
    """A table of rows. A column without any value is left out; states have their colours."""
    from rich.table import Table
    from rich.text import Text

    filled = [name for name in columns if any(row.get(name) not in {None, ""} for row in rows)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in filled:
        # On a narrow terminal sentences go on in the next line, other cells are cut; an id never is.
        whole = max(len(shown(row.get(name))) for row in rows) if name in _NEVER_CUT else None
        wraps = name in _SENTENCES
        table.add_column(name, no_wrap=not wraps, overflow="fold" if wraps else "ellipsis", min_width=whole)
    for row in rows:
        table.add_row(*(Text(shown(row.get(name)), STATE_STYLES.get(str(row.get(name)), "")) for name in filled))
    out().print(table)


def print_facts(facts: Mapping[str, Any]) -> None:
    """Names and values, one a line; those without a value are left out."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in facts.items():
        if value not in {None, ""}:
            grid.add_row(Text(name), Text(shown(value), STATE_STYLES.get(str(value), "")))
    out().print(grid)


def print_heading(text: str) -> None:
    from rich.text import Text

    out().print(Text(f"\n{text}", "bold"))


def shown(value: Any) -> str:
    """A value as a person reads it; times in local time, with the name of its zone."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return f"{value.astimezone():%Y-%m-%d %H:%M:%S %Z}"
    return str(value)


def age(moment: datetime) -> str:
    """How long ago, roughly: 12s, 5m, 3h, 2d."""
    seconds = int((datetime.now(moment.tzinfo) - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(seconds, 0)}s"


def log_to_stderr() -> None:
    """Warnings of the library go to stderr; stdout is for data alone."""
    import structlog

    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(),
        # structlog's own choice shows the local variables: payloads and passwords.
        exception_formatter=structlog.dev.plain_traceback,
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            console,
        ],
        wrapper_class=structlog.make_filtering_bound_logger("WARNING"),
        # Made anew for each line: a test may have replaced sys.stderr since.
        logger_factory=lambda *_names: structlog.PrintLogger(sys.stderr),
    )
