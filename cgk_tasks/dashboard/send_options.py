"""The options of a send, as a form has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from cgk_tasks.errors import InvalidOptionError

OPTIONS: Final = ("delay", "run_at", "priority", "idempotency_key")

_DELAY: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\s*([smhdw]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}


def read_options(texts: Mapping[str, str]) -> dict[str, Any]:
    """What `send` takes. delay: `90`, `90s`, `15m`, `2h`, `3d`, `1w`; run_at: a time, of UTC unless it says otherwise.

    What is empty is left out. Raises InvalidOptionError.
    """
    given = {name: text for name in OPTIONS if (text := texts.get(name, "").strip())}
    if "delay" in given and "run_at" in given:
        raise InvalidOptionError("run_at", "is given beside a delay: one of them says when it starts")
    return {name: _READ[name](text) for name, text in given.items()}


def _delay(text: str) -> float:
    found = _DELAY.fullmatch(text)
    if found is None:
        raise InvalidOptionError("delay", "must be such as 90s, 15m, 2h or 3d")
    return float(found[1]) * _SECONDS[found[2]]


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        raise InvalidOptionError("run_at", "must be a time such as 2026-03-01T09:00, of UTC") from None


def _priority(text: str) -> int:
    if not re.fullmatch(r"\d", text, re.ASCII):
        raise InvalidOptionError("priority", "must be from 0 (can wait) to 9 (urgent)")
    return int(text)


_READ: Final[Mapping[str, Any]] = {
    "delay": _delay, "run_at": _time, "priority": _priority, "idempotency_key": str,
}  # fmt: skip
