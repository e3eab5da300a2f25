"""Celery's times: `countdown`, `eta` and `expires` as a task is sent or retried. Errors name the option."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from typing import Any

from cgk_tasks.errors import LONGEST_WAIT_SECONDS, InvalidOptionError, as_seconds
from cgk_tasks.runs.text import text_of
from cgk_tasks.sql.clock import known_now


def countdown_of(value: Any) -> float:
    """Seconds to wait, at most a hundred years. A negative countdown is none, as in Celery. Raises
    InvalidOptionError.
    """
    return max(0.0, _near("countdown", seconds_of("countdown", value)))


def moment_of(option: str, value: Any) -> datetime:
    """A date, or its text in ISO 8601, at most a hundred years away; without a zone it is UTC, as in Celery. Raises
    InvalidOptionError.
    """
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        raise InvalidOptionError(option, f"is {value!r}, which is no date in ISO 8601") from None
    if not isinstance(moment, datetime):
        raise InvalidOptionError(option, f"must be a datetime, not {type(value).__name__}")
    _near(option, seconds_until(moment))
    return _aware(moment)


def expiry_of(value: Any) -> float | datetime | None:
    """What `expires` may be: seconds, a date or its text. What lies in the past is expired at once, as in Celery.
    Raises InvalidOptionError.
    """
    if isinstance(value, datetime | str):
        return moment_of("expires", value)
    return value if value is None else max(0.0, _near("expires", seconds_of("expires", value)))


def seconds_until(moment: datetime) -> float:
    """How long it is until then; a date without a zone is UTC, as in Celery."""
    return (_aware(moment) - known_now()).total_seconds()


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def seconds_of(option: str, value: Any) -> float:
    """A number of seconds or a timedelta. Raises InvalidOptionError."""
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta) or math.isnan(as_seconds(value)):
        raise InvalidOptionError(option, f"must be a number of seconds, not {text_of(value)}")
    return as_seconds(value)


def _near(option: str, seconds: float) -> float:
    if abs(seconds) > LONGEST_WAIT_SECONDS:
        raise InvalidOptionError(option, "is more than a hundred years away")
    return seconds
