"""Structured logs: each line with tenant, event, run and attempt; JSON lines in production, readable on a terminal."""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, MutableMapping
from logging.handlers import WatchedFileHandler
from typing import Any

import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.monitoring.log_secrets import SecretsMask
from cgk_tasks.runs import logs

_SHARED: list[Any] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
    structlog.processors.UnicodeDecoder(),
    # "event" is the run's event everywhere in cgk_tasks; what structlog calls so is the message.
    structlog.processors.EventRenamer("message", replace_by="_event"),
]


# Which run a line is of, and where and when it was logged.
_IDS = frozenset({"level", "logger", "timestamp", "tenant", "run", "attempt", "event", "job"})
# The line's own texts. An event may have fields that are called so too.
_TEXTS = frozenset({"message", "exception", "stack"})


def redact(_logger: object, _method: str, line: MutableMapping[str, Any]) -> Mapping[str, Any]:
    """A processor: what is logged inside a run comes without the values that its event marks as sensitive."""
    run_log = logs.current.get()
    if run_log is None:
        return line
    if logs.is_of_a_job(line.get("logger", "")):
        return {
            name: value if name in _IDS else run_log.shown(value, None if name in _TEXTS else name)
            for name, value in line.items()
        }
    if "exception" in line:  # the framework's own lines quote nothing else that a job has made
        line["exception"] = run_log.redaction.text(line["exception"])
    return line


def configure_logging(log_file: str | None = None) -> None:
    """Send the logs of cgk_tasks, Celery and the application to stdout, in one format. Safe to repeat.

    log_file: where they go instead. It may be moved away meanwhile: a new one is begun then.
    """
    settings = get_settings()
    on_terminal = log_file is None and sys.stdout.isatty()
    as_json = settings.log_format == "json" or (settings.log_format == "auto" and not on_terminal)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    renderer: Any = structlog.processors.JSONRenderer() if as_json else _console_renderer(colors=on_terminal)
    mask = SecretsMask(settings)
    handler = logging.StreamHandler(sys.stdout) if log_file is None else WatchedFileHandler(log_file, encoding="utf-8")
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,  # before redact, which reads texts; it shows no local variables
                redact,
                renderer,
                lambda _logger, _method, text: mask(str(text)),  # last, when nothing more becomes text
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler, logs.RunLogHandler()] if settings.run_logs else [handler]
    root.setLevel(settings.log_level)
    # Our own line about a failed run has its tenant and run; Celery's second one has not.
    logging.getLogger("celery.app.trace").setLevel(logging.CRITICAL)
    logging.getLogger("celery.worker.strategy").setLevel(logging.WARNING)


def _console_renderer(*, colors: bool) -> structlog.dev.ConsoleRenderer:
    # Should a traceback come unformatted: structlog's own choice, with rich, shows local variables, such as passwords.
    return structlog.dev.ConsoleRenderer(
        colors=colors, event_key="message", exception_formatter=structlog.dev.plain_traceback
    )
