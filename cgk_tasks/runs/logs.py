"""Run logs: what a job logs while it runs, kept with its run.

Lines are gathered in memory, and written to PostgreSQL with the packet's outcomes or once a second, whichever is
earlier (`log_writing`). An attempt whose process dies loses its last second. A run that logs nothing costs nothing.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from pydantic import BaseModel

from cgk_tasks.config import get_settings
from cgk_tasks.events.redaction import Redaction
from cgk_tasks.runs import log_writing
from cgk_tasks.runs.sealing import open_sealed
from cgk_tasks.runs.text import text_of
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from cgk_tasks.tenancy.visibility import may_see

SQL = statements("logs")

_LONGEST = 8_000
"""Characters of a message or traceback that are kept."""
_DEEPEST = 8
"""Data in a field that lies deeper is kept as text: it may refer to itself."""

_FRAMEWORK: Final = ("cgk_tasks", "celery", "kombu", "amqp", "billiard")
_JOBS: Final = ("cgk_tasks.jobs", "celery.task", "celery.redirected")
"""Loggers of a framework that jobs are meant to use; the last one has what they print."""

_OWN_FIELDS: Final = frozenset(
    {
        "message",
        "level",
        "logger",
        "timestamp",
        "tenant",
        "run",
        "attempt",
        "job",
        "event",
        "trace_id",
        "_record",
        "_from_structlog",
    }
)
"""Of a line of structlog's: what is in the record already, or is kept apart."""

current: ContextVar[RunLog | None] = ContextVar("cgk_run_log", default=None)


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a job logged. Personal data in it is redacted."""

    at: datetime
    attempt: int
    level: str
    logger: str
    message: str
    fields: Mapping[str, Any] = field(default_factory=dict)


class RunLog:
    """The lines of one attempt: those that are logged while it is `current`.

    lines: those that are not written yet; None before the first one. size: the bytes of all that were kept.
    printed: the beginning of a line that has not ended.
    """

    # Most attempts log nothing, so there is nothing to make for them.
    lines: list[str] | None = None
    size = 0
    left_out = 0
    is_copy = False
    printed = ""
    _redaction: Redaction | None = None

    def __init__(self, run_id: str, tenant_id: str, attempt: int, payload: object) -> None:
        self.run_id, self.tenant_id, self.attempt, self.payload = run_id, tenant_id, attempt, payload

    @property
    def redaction(self) -> Redaction:
        """Made at the first line: most runs log none.

        The arguments of a plain Celery task have no marks: what it logs of them is its own decision.
        """
        if self._redaction is None:
            self._redaction = Redaction("", self.payload if isinstance(self.payload, BaseModel | list) else {})
        return self._redaction

    def shown(self, value: Any, name: str | None = None) -> Any:
        """A logged value as JSON data without personal data; `name` is that of its field in the line."""
        data = _as_data(value)
        return self.redaction.data(data) if name is None else self.redaction.field(name, data)

    def add(self, record: logging.LogRecord) -> None:
        """Keep a line, if there is room for it."""
        if self.is_copy:
            return
        line = _as_text(self._line(record))
        if self.size + len(line) > get_settings().run_log_bytes:
            self.left_out += 1
            return
        self.size += len(line)
        if self.lines is None:
            self.lines = []
        self.lines.append(line)
        if len(self.lines) == 1:
            log_writing.soon(self)

    def _line(self, record: logging.LogRecord) -> dict[str, Any]:
        of_structlog = record.msg if isinstance(record.msg, dict) else None
        message = str(of_structlog.get("message", "")) if of_structlog is not None else record.getMessage()
        line: dict[str, Any] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": self.redaction.text(message)[:_LONGEST],
        }
        exc_info: Any = record.exc_info
        if of_structlog is not None:
            given = {name: value for name, value in of_structlog.items() if name not in _OWN_FIELDS}
            exc_info = given.pop("exc_info", None) or exc_info
            line["fields"] = {name: self.shown(value, name) for name, value in given.items()}
        if trace := _traceback(exc_info):
            line["exception"] = self.redaction.text(trace)[-_LONGEST:]
        return line


def _as_data(value: Any, depth: int = 0) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 1024 else text_of(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping) and depth <= _DEEPEST:
        return {str(name): _as_data(item, depth + 1) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset) and depth <= _DEEPEST:
        return [_as_data(item, depth + 1) for item in value]
    return str(value)


def _traceback(exc_info: Any) -> str:
    if exc_info is True:
        exc_info = sys.exc_info()
    if isinstance(exc_info, BaseException):
        return "".join(traceback.format_exception(exc_info))
    if isinstance(exc_info, tuple) and exc_info[1] is not None:
        return "".join(traceback.format_exception(exc_info[1]))
    return ""


def _as_text(line: Mapping[str, Any]) -> str:
    """JSON that PostgreSQL takes: no NUL, no half of a surrogate pair."""
    text = json.dumps(line, ensure_ascii=False, allow_nan=False, default=str)
    return text.replace("\\u0000", "\\ufffd").encode("utf-8", "replace").decode()


class RunLogHandler(logging.Handler):
    """Gives each line to the attempt in whose context it was logged. The framework's own lines are not a job's."""

    def emit(self, record: logging.LogRecord) -> None:
        run_log = current.get()
        if run_log is not None and is_of_a_job(record.name):
            try:
                run_log.add(record)
            except Exception:  # noqa: BLE001 - a line that cannot be kept must not fail the job
                run_log.left_out += 1


def _after_fork() -> None:
    """A process that a job forks has a copy of its lines. The parent writes them; what the child logs is only in its
    output.
    """
    if (run_log := current.get()) is not None:
        run_log.is_copy = True


os.register_at_fork(after_in_child=_after_fork)


def hide_variables() -> None:
    """Where the application leaves structlog as it is: its tracebacks show local variables, payloads and passwords
    among them. For processes that are not set up by `configure_logging`, and run jobs.
    """
    if not structlog.is_configured():
        *before, _renderer = structlog.get_config()["processors"]
        console = structlog.dev.ConsoleRenderer(
            colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
        structlog.configure(processors=[*before, console])


def is_of_a_job(logger: str) -> bool:
    """Whether lines of this logger are a job's own, not the framework's."""
    top = logger.partition(".")[0]
    return top not in _FRAMEWORK or logger.startswith(_JOBS)


def lines(run_id: str) -> list[LogLine]:
    """What the attempts of a run logged, in order. Where lines were left out, a line says how many.

    Lines are kept as long as the history (CGK_HISTORY_DAYS), or until `system.cleanup` deletes them; CGK_RUN_LOG_BYTES
    of them for a run. Another tenant's are not seen.
    """
    with autocommit() as connection:
        rows = [row for row in fetch(connection, SQL["lines"], {"run_id": run_id}) if may_see(row["tenant_id"])]
    found = []
    for row in rows:
        text = open_sealed(row["tenant_id"], "log_lines", row["sealed_lines"], row["key_id"])
        found += [_log_line(row["attempt"], line) for line in json.loads(text or "[]")]
        if row["left_out"]:
            message = f"{row['left_out']} more lines were not kept"
            found.append(LogLine(row["logged_at"], row["attempt"], "info", "cgk_tasks.run_logs", message))
    return found


def _log_line(attempt: int, line: Mapping[str, Any]) -> LogLine:
    fields = dict(line.get("fields") or {})
    if "exception" in line:
        fields["exception"] = line["exception"]
    at = datetime.fromisoformat(line["at"])
    return LogLine(at, attempt, line["level"], line["logger"], line["message"], fields)
