"""Celery's priorities and ours. What a priority means in Celery is the broker's rule: in Redis 0 is the most urgent of
four steps, in RabbitMQ the highest number is. A task that is sent without one has 0 in both.

Ours go from 0 (can wait) to 9 (urgent) on every broker, and 5 is that of a run whose sender names none. So Celery's 0
is our 5, and its other numbers lie below it with Redis, above it with RabbitMQ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_postgresql, is_redis
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.runtime import Part

_LARGEST: Final = 255
_REDIS: Final = (5, 5, 5, 3, 3, 2, 1, 1, 1, 0)
_RABBITMQ: Final = (5, 6, 6, 6, 7, 7, 8, 8, 9, 9)
"""Ours, by Celery's number from 0 to 9."""

_REDIS_BACK: Final = (9, 6, 5, 3, 0, 0, 0, 0, 0, 0)
_RABBITMQ_BACK: Final = (0, 0, 0, 0, 0, 0, 3, 5, 7, 9)
"""Celery's, by our number: one that leads to ours again."""


def priority_of(value: Any, highest: int | None = None) -> int:
    """Our priority for one of Celery's. highest: RabbitMQ's `x-max-priority`, 9 where nobody says; what is above it
    counts as it. Raises InvalidOptionError.
    """
    check_priority(value)
    if highest and not broker_is_redis():
        value = -(-min(value, highest) * 9 // highest)
    return _table(_REDIS, _RABBITMQ)[min(int(value), 9)]


def check_priority(value: Any) -> None:
    """Raises InvalidOptionError for what is no priority in Celery."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise InvalidOptionError("priority", f"must be a whole number from 0 to {_LARGEST}, not {value!r}")


def celery_priority(ours: int) -> int:
    """What `request.delivery_info` says of a run's priority."""
    return _table(_REDIS_BACK, _RABBITMQ_BACK)[ours]


def _table(redis: Sequence[int], rabbitmq: Sequence[int]) -> Sequence[int]:
    return redis if broker_is_redis() else rabbitmq


def broker_is_redis() -> bool:
    """Whether this process sends through Redis, or through no broker."""
    return _IS_REDIS.current()


def _is_redis() -> bool:
    settings = get_settings()
    return settings.broker_url is None or is_redis(settings.broker) or is_postgresql(settings.broker)


_IS_REDIS = Part(_is_redis, survives_fork=True)
