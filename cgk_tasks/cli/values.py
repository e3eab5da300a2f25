"""Reading the values that people type: durations, times, JSON."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import typer

from cgk_tasks.config.nearest import did_you_mean

_UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
_PART = re.compile(r"(\d+(?:\.\d+)?)([wdhms])")


def duration(text: str) -> timedelta:
    """`90s`, `15m`, `1d2h`, `2w`, or plain seconds. Raises typer.BadParameter."""
    compact = text.replace(" ", "").lower()
    parts = _PART.findall(compact)
    if parts and "".join(number + unit for number, unit in parts) == compact:
        amounts: dict[str, float] = {}
        for number, unit in parts:
            amounts[_UNITS[unit]] = amounts.get(_UNITS[unit], 0.0) + float(number)
    else:
        try:
            amounts = {"seconds": float(compact)}
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not a duration. Write it like 90s, 15m, 1d2h or 2w.") from None
    try:
        return timedelta(**amounts)
    except (OverflowError, ValueError):
        raise typer.BadParameter(f"{text!r} is too long.") from None


def time(text: str) -> datetime:
    """ISO 8601 with a time zone. Raises typer.BadParameter."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time. Write it like 2026-03-01T09:00:00+01:00.") from None
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{text!r} has no time zone. Add one: {text}Z is UTC, {text}+01:00 is an hour ahead.")
    return moment


def one_of(names: Sequence[str]) -> Callable[[str], str]:
    """A parser for an option that takes one of these names. It raises typer.BadParameter, with the nearest of them."""

    def read(text: str) -> str:
        if text not in names:
            raise typer.BadParameter(f"{text!r} is not one of: {', '.join(names)}.{did_you_mean(text, names)}")
        return text

    return read


def stdin_text() -> str:
    """All of stdin, which is UTF-8 whatever the locale says. Raises typer.BadParameter."""
    try:
        return sys.stdin.read().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(
            f"what comes from stdin is not UTF-8 (byte {error.start + 1}). Convert it: iconv -t UTF-8"
        ) from None


def json_object(text: str) -> dict[str, Any]:
    """A JSON object; `-` reads stdin. Raises typer.BadParameter."""
    if text == "-":
        text = stdin_text()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"it is not JSON: {error}. Put it in single quotes, or give - and pipe it.") from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f"it must be a JSON object like {{...}}, not {text.strip()[:40]}")
    return value
