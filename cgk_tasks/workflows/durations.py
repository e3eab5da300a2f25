"""How long steps wait, as workflows say it."""

from __future__ import annotations

from datetime import datetime, timedelta

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, ConfigurationError, as_seconds


def sleep_seconds(name: str, delay: float | timedelta) -> float:
    """Raises ConfigurationError for what is no duration."""
    try:
        seconds = as_seconds(delay)
    except (TypeError, ValueError):
        seconds = float("nan")
    if not 0 <= seconds < float("inf"):
        raise ConfigurationError(f"{name!r} cannot last {delay!r}.", hint="Give seconds from 0, or a timedelta.")
    return min(seconds, LONGEST_WAIT_SECONDS)


def timeout_seconds(name: str, timeout: float | timedelta | None) -> float | None:
    """None for a wait without an end. Raises ConfigurationError for what is no duration."""
    return None if timeout is None else sleep_seconds(name, timeout)


def aware(name: str, moment: datetime) -> datetime:
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        raise ConfigurationError(
            f"{name!r} cannot end at {moment!r}.",
            hint="Give an aware datetime, for instance wf.now() + timedelta(days=1).",
        )
    return moment
