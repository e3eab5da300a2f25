"""Celery's times, bounded: `countdown`, `eta` and `expires` as a task is sent or retried. Errors name the option."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, InvalidOptionError, as_seconds


def countdown_of(value: Any) -> float:
    """Seconds to wait, at most a hundred years. A negative countdown is none, as in Celery. Raises InvalidOptionError."""
    return max(0.0, _seconds("countdown", value))


def moment_of(option: str, value: Any) -> datetime:
    """A date, or its text in ISO 8601, at most a hundred years away. Raises InvalidOptionError."""
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise InvalidOptionError(option, f"is {value!r}, which is no date in ISO 8601") from None
    if not isinstance(moment, datetime):
        raise InvalidOptionError(option, f"must be a datetime, not {type(value).__name__}")
    seconds_until(option, moment)
    return moment


def seconds_until(option: str, moment: datetime) -> float:
    """How long it is until then; a date without a zone is UTC, as in Celery. Raises InvalidOptionError."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return _seconds(option, (aware - datetime.now(UTC)).total_seconds())


def expiry_of(value: Any) -> Any:
    """What `expires` may be: seconds, a date or its text. Raises InvalidOptionError."""
    if isinstance(value, datetime | str):
        return moment_of("expires", value)
    return value if value is None else _seconds("expires", value)


def _seconds(option: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise InvalidOptionError(option, f"must be a number of seconds, not {type(value).__name__}")
    seconds = as_seconds(value)
    if not abs(seconds) <= LONGEST_WAIT_SECONDS:
        raise InvalidOptionError(option, "is more than a hundred years away")
    return seconds
