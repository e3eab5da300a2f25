"""The log lines of a run: those of a level that have a text, a page at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal, cast

from cgk_tasks.dashboard.tracebacks import Traceback, traceback_of
from cgk_tasks.events.redaction import Redaction
from cgk_tasks.runs.logs import LogLine, lines

Level = Literal["debug", "info", "warning", "error", "critical"]

LEVELS: Final[Mapping[Level, int]] = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
"""From the least severe one. A level of the application's own name counts as `info`."""
PAGE: Final = 200
"""Lines of a page."""

_EXCEPTION: Final = "exception"


@dataclass(frozen=True, slots=True)
class ShownLine:
    """A line as the page has it. number: among all lines of the run, from 1. fields: without the traceback."""

    number: int
    at: datetime
    attempt: int
    level: str
    logger: str
    message: str
    fields: Mapping[str, Any]
    trace: Traceback | None

    @property
    def severity(self) -> Level:
        """The nearest of the usual levels that is not more severe."""
        number = severity(self.level)
        found: Level = "debug"
        for level, least in LEVELS.items():
            found = level if number >= least else found
        return found


@dataclass(frozen=True, slots=True)
class LogFilter:
    """level: the least severe one; '' for all. text: in messages, loggers, fields and tracebacks, whatever its case.

    until: the place of the first line that is not shown any more, among those that match; None for the last page.
    """

    level: Level | Literal[""] = ""
    text: str = ""
    until: int | None = None

    @property
    def is_all(self) -> bool:
        return not self.level and not self.text


@dataclass(frozen=True, slots=True)
class Log:
    """A page of lines in the order of time. before, after: how many that match come earlier and later. lines_in_all: of
    the run, whether they match or not.
    """

    lines: tuple[ShownLine, ...]
    before: int
    after: int
    lines_in_all: int

    @property
    def matching(self) -> int:
        return self.before + len(self.lines) + self.after

    @property
    def earlier(self) -> int:
        """`until` of the page before."""
        return self.before

    @property
    def later(self) -> int:
        """`until` of the page after."""
        return min(self.before + len(self.lines) + PAGE, self.matching)


def log_of(run_id: str, hide: Redaction | None = None, wanted: LogFilter = LogFilter()) -> Log:
    """What the run logged.

    Redacted when it was logged, and once more here: this process may know less about the event than the worker did.
    It is searched as it is shown: nobody finds out by searching what is hidden from them.
    """
    return page_of(log_lines(run_id, hide), wanted)


def log_lines(run_id: str, hide: Redaction | None = None) -> list[ShownLine]:
    """All lines of the run."""
    return [_shown(number, line, hide) for number, line in enumerate(lines(run_id), 1)]


def page_of(found: Sequence[ShownLine], wanted: LogFilter) -> Log:
    """The page that is wanted of these lines; the last one if it begins after the end."""
    matching = [line for line in found if _matches(line, wanted)]
    until = len(matching) if wanted.until is None else min(max(wanted.until, 0), len(matching))
    if until == 0:
        until = min(PAGE, len(matching))
    begin = max(until - PAGE, 0)
    return Log(tuple(matching[begin:until]), begin, len(matching) - until, len(found))


def _shown(number: int, line: LogLine, hide: Redaction | None) -> ShownLine:
    message = line.message if hide is None else hide.text(line.message)
    fields: dict[str, Any] = dict(line.fields) if hide is None else hide.data(line.fields)
    trace = fields.pop(_EXCEPTION, None)
    return ShownLine(
        number, line.at, line.attempt, line.level, line.logger, message, fields,
        None if trace is None else traceback_of(str(trace)),
    )  # fmt: skip


def severity(level: str) -> int:
    """How severe a level is, by the numbers of `logging`."""
    if level in LEVELS:
        return LEVELS[cast("Level", level)]
    return int(level[6:]) if level.startswith("level ") and level[6:].isdecimal() else LEVELS["info"]


def _matches(line: ShownLine, wanted: LogFilter) -> bool:
    if wanted.level and severity(line.level) < LEVELS[wanted.level]:
        return False
    return not wanted.text or wanted.text.casefold() in _text(line).casefold()


def _text(line: ShownLine) -> str:
    """As it is read on the page."""
    fields = " ".join(f"{name}={as_text(value)}" for name, value in line.fields.items())
    return " ".join((line.logger, line.message, fields, "" if line.trace is None else line.trace.text))


def as_text(value: Any) -> str:
    """A field's value: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
