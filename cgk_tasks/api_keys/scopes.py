"""What a key may do: `send:order.created`, `send:order.*`, `send:*`, `read` and `operate`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from cgk_tasks.errors import InvalidOptionError, RequestRefusedError
from cgk_tasks.events.base import INTERNAL
from cgk_tasks.events.registry import find_event

READ: Final = "read"
"""Runs with their payloads and results, logs, schedules, limits and usage; streams, and tokens for those."""
OPERATE: Final = "operate"
"""Cancel, replay and signal runs."""
SEND: Final = "send:"
WATCH: Final = "watch:"
"""With the id of a run: watch this one. Of browsers' tokens alone; keys with READ may watch all runs."""
WATCH_ALL: Final = f"{WATCH}*"

_PATTERN: Final = re.compile(r"\*|[a-z][A-Za-z0-9_]*(\.[a-z][A-Za-z0-9_]*)*(\.\*)?")
_MOST: Final = 100


def checked_scopes(scopes: Sequence[str]) -> list[str]:
    """The scopes of a new key, each once. Raises InvalidOptionError."""
    wanted = [scopes] if isinstance(scopes, str) else list(dict.fromkeys(scopes))
    wrong = [scope for scope in wanted if not _is_scope(scope)]
    if wrong or not 0 < len(wanted) <= _MOST:
        raise InvalidOptionError(
            "scopes",
            f"{wrong[0]!r} is none." if wrong else f"there must be 1 to {_MOST}.",
            hint="Name them like send:order.created, send:order.*, send:*, read, operate.",
        )
    return wanted


def _is_scope(scope: object) -> bool:
    if not isinstance(scope, str):
        return False
    return scope in {READ, OPERATE} or (
        scope.startswith(SEND) and len(scope) < 200 and _PATTERN.fullmatch(scope.removeprefix(SEND)) is not None
    )


def may_send(scopes: Sequence[str], event: str) -> bool:
    """Whether one of the patterns is that of the event: its name, `order.*` for all that begin so, or `*`."""
    patterns = [scope.removeprefix(SEND) for scope in scopes if scope.startswith(SEND)]
    return any(
        pattern in {"*", event} or (pattern.endswith(".*") and event.startswith(pattern[:-1])) for pattern in patterns
    )


def require(scopes: Sequence[str], scope: str) -> None:
    """Raises RequestRefusedError, 403, for a key without the scope."""
    if scope not in scopes:
        raise _forbidden(scope)


def require_send(scopes: Sequence[str], event: str) -> None:
    """Raises RequestRefusedError, 403, for a key that may not send the event, and for an event that no key may send."""
    model = find_event(event)
    if model is not None and model.category == INTERNAL:
        raise RequestRefusedError(
            f"{event} is an event of cgk_tasks' own, which nobody sends over HTTP.", "FORBIDDEN", 403,
            hint="Send an event of the catalog or of the application.",
        )  # fmt: skip
    if not may_send(scopes, event):
        raise _forbidden(f"{SEND}{event}" if _PATTERN.fullmatch(event) else f"{SEND}*")


def require_watch(scopes: Sequence[str], run_id: str | None) -> None:
    """Raises RequestRefusedError, 403, for who may not watch this run, or with None all runs."""
    if READ in scopes or WATCH_ALL in scopes or (run_id is not None and f"{WATCH}{run_id}" in scopes):
        return
    if any(scope.startswith(WATCH) for scope in scopes):
        raise RequestRefusedError(
            "This token may not do that.", "FORBIDDEN", 403, hint="It is for one run: watch that one."
        )
    raise _forbidden(READ)


def _forbidden(scope: str) -> RequestRefusedError:
    return RequestRefusedError(
        "This key may not do that.", "FORBIDDEN", 403, hint=f"It takes a key with the scope {scope}."
    )
