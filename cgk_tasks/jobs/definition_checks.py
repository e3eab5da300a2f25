"""What a job may be defined with. Each raises ConfigurationError for what it may not."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from cgk_tasks.admission.rules import Rule, check_rules
from cgk_tasks.errors import LONGEST_WAIT_SECONDS, ConfigurationError, as_seconds
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.runs.models import is_priority, is_queue_name


def checked_limits(job_id: str, limits: object, model: type[TenantEvent]) -> tuple[Rule, ...]:
    if not isinstance(limits, list | tuple):
        raise ConfigurationError(f"Job {job_id!r}: limits must be a list, not {limits!r}.", hint="limits=[AtOnce(5)]")
    if limits and not model.durable:
        raise ConfigurationError(
            f"Job {job_id!r} cannot have limits: runs of {model.event_name} are not recorded (durable=False).",
            hint="Leave durable=False out, or use with_rate_limit().",
        )
    check_rules(job_id, limits, [field.alias or name for name, field in model.model_fields.items()])
    return tuple(limits)


def checked_ttl(job_id: str, ttl: object, model: type[TenantEvent]) -> float | None:
    if ttl is None:
        return None
    is_duration = isinstance(ttl, int | float | timedelta) and not isinstance(ttl, bool)
    seconds = as_seconds(ttl) if is_duration else math.nan  # type: ignore[arg-type]  # it is one
    if not 0 < seconds <= LONGEST_WAIT_SECONDS:
        raise ConfigurationError(f"Job {job_id!r}: ttl must be more than 0 seconds, or a timedelta, not {ttl!r}.")
    if not model.durable:
        raise ConfigurationError(
            f"Job {job_id!r} cannot have a ttl: runs of {model.event_name} are not recorded (durable=False).",
            hint="Leave durable=False out.",
        )
    return seconds


def check_route(job_id: str, queue: object, priority: object) -> None:
    if queue is not None and not is_queue_name(queue):
        raise ConfigurationError(
            f"Job {job_id!r}: queue must be a name of 1 to 200 printable characters, not {queue!r}."
        )
    if priority is not None and not is_priority(priority):
        raise ConfigurationError(
            f"Job {job_id!r}: priority must be a whole number from 0 (can wait) to 9 (urgent), not {priority!r}."
        )


def check_transaction(job_id: str, transaction: object, *, redelivery: bool) -> None:
    if transaction not in ("own", "shared"):
        raise ConfigurationError(f'Job {job_id!r}: transaction must be "own" or "shared", not {transaction!r}.')
    if transaction == "shared" and not redelivery:
        raise ConfigurationError(
            f"Job {job_id!r} must not run twice (redelivery=False), so its runs cannot share a transaction: one that "
            "is rolled back with the others runs again.",
            hint='Leave transaction="shared" out.',
        )


def check_handler(job_id: str, handler: Callable[..., Any]) -> None:
    try:
        inspect.signature(handler).bind(object())
    except TypeError:
        raise ConfigurationError(
            f"Job {job_id!r}: its function must take one argument, the JobContext: def {name_of(handler)}(ctx): ..."
        ) from None


def name_of(handler: Callable[..., Any]) -> str:
    return getattr(handler, "__qualname__", repr(handler))
