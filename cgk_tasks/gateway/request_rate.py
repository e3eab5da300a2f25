"""How many requests a key may make in a minute, and at once.

Those of a minute are counted in Redis over all gateways, else in this process. Those at once are counted in each
process, whose memory they need.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import redis
import structlog

from cgk_tasks.config import get_settings
from cgk_tasks.errors import RequestRefusedError
from cgk_tasks.gateway.bearer import Bearer
from cgk_tasks.jobs.rate_limit import Permit, RateLimiter, create_rate_limiter, shared_rate_limiter
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.runtime import Part
from cgk_tasks.tenancy.cache import has_tenant_cache

log = structlog.get_logger("cgk_tasks.gateway")

_MINUTE: Final = 60.0
_NAME: Final = "gateway"


class RequestRate:
    """The limit of a process. Without Redis, or while it is away, each process counts by itself: requests go on."""

    def __init__(self) -> None:
        most = get_settings().gateway_requests_per_minute
        self._own: RateLimiter | None = None
        self._shared: RateLimiter | None = None
        if most:
            self._own = create_rate_limiter(interval=_MINUTE, max_per_interval=most, name=_NAME)
            if has_tenant_cache():
                self._shared = shared_rate_limiter(interval=_MINUTE, max_per_interval=most, name=_NAME)
        self._away = RecurringWarning(log, "request_rate_counted_alone", "request_rate_shared")

    def wait_seconds(self, key: Bearer) -> float:
        """0 if a request of the key may go on, which counts it; else after how many seconds to come back."""
        if self._own is None:
            return 0.0
        permit = self._permit(self._own, f"{key.tenant_id}:{key.id}")
        return 0.0 if permit.granted else max(permit.wait_seconds, 0.001)

    def _permit(self, own: RateLimiter, holder: str) -> Permit:
        if self._shared is not None:
            try:
                permit = self._shared.acquire(holder)
            except redis.RedisError as exc:
                self._away.warn(reason=str(exc).strip())
            else:
                self._away.is_over()
                return permit
        permit = own.acquire(holder)
        own.release(permit)
        return permit


RATE = Part(RequestRate)


def count_request(key: Bearer) -> None:
    """Raises RequestRefusedError, 429."""
    seconds = RATE.current().wait_seconds(key)
    if seconds:
        most = get_settings().gateway_requests_per_minute
        raise RequestRefusedError(
            f"This key makes more than {most:,} requests in a minute.", "TOO_MANY_REQUESTS", 429, retry_after=seconds,
            hint="Send many events in one request.",
        )  # fmt: skip


def _at_once() -> RateLimiter:
    return create_rate_limiter(max_concurrent=get_settings().gateway_requests_at_once, name=f"{_NAME}-at-once")


AT_ONCE = Part(_at_once)


def take_place(holder: str, whose: str = "of this key") -> Callable[[], None]:
    """Count a request that is on. Returns what is to be called when it is over. Raises RequestRefusedError, 429."""
    most = get_settings().gateway_requests_at_once
    said = f"{most:,} requests {whose} are on already."
    return _taken(AT_ONCE.current(), holder, said, "Send the next one when one of them is answered.")


def take_place_of(key: Bearer) -> Callable[[], None]:
    """The same, of a key."""
    return take_place(key.id)


def _streams() -> RateLimiter:
    return create_rate_limiter(max_concurrent=get_settings().gateway_streams_at_once, name=f"{_NAME}-streams")


STREAMS = Part(_streams)


def take_stream(bearer: Bearer) -> Callable[[], None]:
    """Count a stream that is open. Returns what is to be called when it is not. Raises RequestRefusedError, 429."""
    most = get_settings().gateway_streams_at_once
    said = f"{most:,} streams of this tenant are open already."
    return _taken(STREAMS.current(), bearer.tenant_id, said, "Close those that nobody looks at.")


def _taken(limiter: RateLimiter, holder: str, said: str, hint: str) -> Callable[[], None]:
    permit = limiter.acquire(holder)
    if not permit.granted:
        raise RequestRefusedError(said, "TOO_MANY_REQUESTS", 429, retry_after=permit.wait_seconds, hint=hint)
    return partial(limiter.release, permit)
