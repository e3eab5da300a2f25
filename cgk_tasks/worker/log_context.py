"""The names of a run on each line that is logged while it is on: structlog's context variables.

`structlog.contextvars.bind_contextvars` makes them of keywords, and looks each of them up, for every run.
"""

from __future__ import annotations

from contextvars import ContextVar, Token
from typing import Any

import structlog

_Tokens = tuple[Token[Any], Token[Any], Token[Any], Token[Any]]


def _variable(name: str) -> ContextVar[Any]:
    """Structlog's own, which it shows in a token."""
    bound = structlog.contextvars.bind_contextvars(**{name: None})
    structlog.contextvars.reset_contextvars(**bound)
    return bound[name].var


_tenant, _event, _run, _attempt = map(_variable, ("tenant", "_event", "run", "attempt"))


def bind(tenant: str, event: str, run: str, attempt: int) -> _Tokens:
    """Put them on the lines from now on. Returns what `reset` wants."""
    return _tenant.set(tenant), _event.set(event), _run.set(run), _attempt.set(attempt)


def reset(bound: _Tokens) -> None:
    """As it was before."""
    tenant, event, run, attempt = bound
    _tenant.reset(tenant)
    _event.reset(event)
    _run.reset(run)
    _attempt.reset(attempt)
