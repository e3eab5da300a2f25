"""Rate limits per tenant: how many jobs run at once, and how many start in an interval.

The interval slides: in no stretch of its length do more than `max_per_interval` jobs start. Who is refused is told
when to come back. Those refused one after another get times one after another, so that a backlog does not return
all at once; the times are advice, and keep no room free.
"""

from __future__ import annotations

import math
import random
import threading
import time
import uuid
from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Protocol

import redis

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, as_seconds
from cgk_tasks.logger import get_logger
from cgk_tasks.tenancy.cache import cache_client, has_tenant_cache

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger("cgk_tasks.jobs")

_BUSY_WAIT_SECONDS = 1.0
_MAX_QUEUE_SECONDS = 300.0
"""Times to come back are spread over this much and no more: else callers that ask too often push them out for ever."""


kept_by_admission: ContextVar[bool] = ContextVar("cgk_kept_by_admission", default=False)
"""Whether the limits of jobs were seen to before the runs of this packet were dispatched."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The answer to `acquire`. When not granted, come back in `wait_seconds`; `limit` says what has no room,
    in words.
    """

    granted: bool
    tenant_id: str
    holder: str
    wait_seconds: float = 0.0
    lease_ends_at: int = 0
    limit: str = ""


class RateLimiter(Protocol):
    """What `with_rate_limit` needs."""

    @property
    def name(self) -> str: ...

    def acquire(self, tenant_id: str, *, holder: str | None = None) -> Permit:
        """Take a place and a start, or neither. holder: whose place it is;
        a run that comes again takes over its own.
        """

    def release(self, permit: Permit) -> None:
        """Give the place back; without effect for a permit that was not granted. Never raises."""


@dataclass(frozen=True, slots=True)
class _Limits:
    name: str
    max_concurrent: int | None
    interval_seconds: float | None
    max_per_interval: int | None

    @property
    def at_once(self) -> str:
        return f"{self.max_concurrent} at once"

    @property
    def in_interval(self) -> str:
        return f"{self.max_per_interval} in {self.interval_seconds:g} s"


def _limits(
    name: str, max_concurrent: int | None, interval: float | timedelta | None, max_per_interval: int | None
) -> _Limits:
    if not isinstance(name, str) or not name or set(name) & set("{} \n"):
        raise ConfigurationError(f"Rate limiter: name must be a text without spaces and braces, not {name!r}.")
    if max_concurrent is None and max_per_interval is None:
        raise ConfigurationError(
            f"Rate limiter {name!r} limits nothing.", hint="Give max_concurrent, or interval and max_per_interval."
        )
    if (interval is None) != (max_per_interval is None):
        raise ConfigurationError(f"Rate limiter {name!r}: interval and max_per_interval need each other; give both.")
    for option, value in (("max_concurrent", max_concurrent), ("max_per_interval", max_per_interval)):
        if value is not None and (type(value) is not int or value < 1):
            raise ConfigurationError(f"Rate limiter {name!r}: {option} must be a whole number from 1, not {value!r}.")
    seconds = None if interval is None else _duration(name, "interval", interval)
    return _Limits(name, max_concurrent, seconds, max_per_interval)


def _duration(name: str, option: str, value: float | timedelta) -> float:
    if isinstance(value, (int, float, timedelta)) and not isinstance(value, bool):
        seconds = as_seconds(value)
        if math.isfinite(seconds) and seconds >= 0.001:
            return seconds
    raise ConfigurationError(
        f"Rate limiter {name!r}: {option} must be at least 0.001 seconds, or a timedelta, not {value!r}."
    )


def _busy_wait() -> float:
    # Nobody knows when a place gets free. Spread, so that those who wait do not come in step.
    return _BUSY_WAIT_SECONDS * random.uniform(0.5, 1.5)  # noqa: S311 - no secret


def create_rate_limiter(
    *,
    max_concurrent: int | None = None,
    interval: float | timedelta | None = None,
    max_per_interval: int | None = None,
    name: str = "default",
    clock: Callable[[], float] = time.monotonic,
) -> RateLimiter:
    """A limiter that counts in this process only, for each tenant apart. Safe in threads.

    A worker of n processes has n such limiters; to count over all workers use `shared_rate_limiter`.

    max_concurrent: jobs that run at once. max_per_interval: jobs that start in any `interval` (seconds or timedelta).
    name: for messages. clock: the time in seconds, for tests. Raises ConfigurationError for values out of range.
    """
    return _ProcessRateLimiter(_limits(name, max_concurrent, interval, max_per_interval), clock)


@dataclass(slots=True)
class _Counts:
    holders: set[str] = field(default_factory=set)
    starts: deque[float] = field(default_factory=deque)
    next_return: float = 0.0


class _ProcessRateLimiter:
    def __init__(self, limits: _Limits, clock: Callable[[], float]) -> None:
        self._limits, self._clock = limits, clock
        self._lock = threading.Lock()
        self._tenants: dict[str, _Counts] = {}

    @property
    def name(self) -> str:
        return self._limits.name

    def acquire(self, tenant_id: str, *, holder: str | None = None) -> Permit:
        holder = holder or uuid.uuid4().hex
        with self._lock:
            counts = self._tenants.setdefault(tenant_id, _Counts())
            if self._is_full(counts, holder):
                return Permit(False, tenant_id, holder, _busy_wait(), limit=self._limits.at_once)
            wait = self._wait(counts)
            if wait > 0:
                return Permit(False, tenant_id, holder, wait, limit=self._limits.in_interval)
            counts.holders.add(holder)
            if self._limits.max_per_interval is not None:
                counts.starts.append(self._clock())
            return Permit(True, tenant_id, holder)

    def _is_full(self, counts: _Counts, holder: str) -> bool:
        places = self._limits.max_concurrent
        return places is not None and holder not in counts.holders and len(counts.holders) >= places

    def _wait(self, counts: _Counts) -> float:
        interval, most = self._limits.interval_seconds, self._limits.max_per_interval
        if interval is None or most is None:
            return 0.0
        now = self._clock()
        while counts.starts and counts.starts[0] <= now - interval:
            counts.starts.popleft()
        if len(counts.starts) < most:
            return 0.0
        free_at = counts.starts[0] + interval
        return_at = min(max(counts.next_return, free_at), free_at + _MAX_QUEUE_SECONDS)
        counts.next_return = return_at + interval / most
        return return_at - now

    def release(self, permit: Permit) -> None:
        if permit.granted:
            with self._lock:
                self._tenants[permit.tenant_id].holders.discard(permit.holder)


def shared_rate_limiter(
    *,
    max_concurrent: int | None = None,
    interval: float | timedelta | None = None,
    max_per_interval: int | None = None,
    name: str = "default",
    lease: float | timedelta | None = None,
    client: redis.Redis | None = None,
) -> RateLimiter:
    """A limiter that counts in Redis over all workers, for each tenant apart, by the clock of the Redis server.

    Limiters of one name share their counts, so give each limit its own name, and all its users the same numbers.
    Redis keeps the times of the last `max_per_interval` starts of a tenant. `acquire` raises redis.RedisError while
    Redis is away: a job that nobody can count does not run.

    max_concurrent: jobs that run at once. max_per_interval: jobs that start in any `interval` (seconds or timedelta).
    lease: how long a place is held at most, so that a killed worker's gets free again. Make it longer than the jobs,
        or more of them run at once. None: the default timeout of jobs and the grace after it. A run that starts
        again after its worker was killed takes over its own place at once.
    client: None for the Redis of the tenant cache.
    Raises ConfigurationError for values out of range.
    """
    limits = _limits(name, max_concurrent, interval, max_per_interval)
    return _SharedRateLimiter(limits, None if lease is None else _duration(name, "lease", lease), client)


def job_rate_limiter(job_id: str, concurrency: int, lease: float | timedelta | None) -> RateLimiter:
    """The limiter behind `define_job(concurrency=)` where runs are not admitted by passes: in other providers, and as
    long as workers of an earlier release live. Over all workers where there is a Redis, else in this process.
    """
    limits = _limits(job_id, concurrency, None, None)
    shared = _SharedRateLimiter(limits, None if lease is None else _duration(job_id, "timeout", lease), None)
    return _JobRateLimiter(shared, _ProcessRateLimiter(limits, time.monotonic))


class _JobRateLimiter:
    """Decides at each use, because jobs are defined before the settings of a deployment are known."""

    def __init__(self, shared: _SharedRateLimiter, own: _ProcessRateLimiter) -> None:
        self._shared, self._own = shared, own

    @property
    def name(self) -> str:
        return self._own.name

    def acquire(self, tenant_id: str, *, holder: str | None = None) -> Permit:
        if kept_by_admission.get():
            return Permit(True, tenant_id, "")
        return (self._shared if has_tenant_cache() else self._own).acquire(tenant_id, holder=holder)

    def release(self, permit: Permit) -> None:
        if not permit.holder:
            return
        (self._shared if permit.lease_ends_at else self._own).release(permit)


# KEYS: places (sorted set: holder, end of its lease), starts (list, newest first), next time to come back.
# ARGV: max_concurrent or 0, interval or 0, max_per_interval, lease, holder, the most that returns are spread over.
# Returns {1, end of the lease}, {0, wait} or {-1, 0} when all places are taken. Times are in microseconds.
_ACQUIRE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local places, interval, most = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local lease_ends_at = now + tonumber(ARGV[4])
local text = function(number) return string.format('%.0f', number) end

if places > 0 then
    redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', text(now))
    if redis.call('ZCARD', KEYS[1]) >= places and not redis.call('ZSCORE', KEYS[1], ARGV[5]) then
        return {-1, 0}
    end
end
if interval > 0 then
    local oldest = tonumber(redis.call('LINDEX', KEYS[2], most - 1) or 0)
    if oldest > now - interval then
        local free_at = oldest + interval
        local return_at = math.max(tonumber(redis.call('GET', KEYS[3]) or 0), free_at)
        return_at = math.min(return_at, free_at + tonumber(ARGV[6]))
        local ttl = math.ceil((return_at - now + interval) / 1000)
        redis.call('SET', KEYS[3], text(return_at + interval / most), 'PX', ttl)
        return {0, return_at - now}
    end
    redis.call('LPUSH', KEYS[2], text(now))
    redis.call('LTRIM', KEYS[2], 0, most - 1)
    redis.call('PEXPIRE', KEYS[2], math.ceil(interval / 1000))
end
if places > 0 then
    redis.call('ZADD', KEYS[1], text(lease_ends_at), ARGV[5])
    local last = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
    redis.call('PEXPIRE', KEYS[1], math.ceil((tonumber(last[2]) - now) / 1000))
end
return {1, lease_ends_at}
"""

# KEYS: places. ARGV: holder, end of its lease. A place that another attempt of the run took over stays taken.
_RELEASE = """
if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0) == tonumber(ARGV[2]) then
    redis.call('ZREM', KEYS[1], ARGV[1])
end
"""


class _SharedRateLimiter:
    def __init__(self, limits: _Limits, lease_seconds: float | None, client: redis.Redis | None) -> None:
        self._limits, self._lease_seconds, self._own_client = limits, lease_seconds, client

    @property
    def name(self) -> str:
        return self._limits.name

    def acquire(self, tenant_id: str, *, holder: str | None = None) -> Permit:
        holder = holder or uuid.uuid4().hex
        limits = self._limits
        arguments: list[Any] = [
            limits.max_concurrent or 0,
            _microseconds(limits.interval_seconds or 0.0),
            limits.max_per_interval or 0,
            _microseconds(self._lease()),
            holder,
            _microseconds(_MAX_QUEUE_SECONDS),
        ]
        answer: Any = self._client().register_script(_ACQUIRE)(self._keys(tenant_id), arguments)
        verdict, value = int(answer[0]), int(answer[1])
        if verdict == 1:
            return Permit(True, tenant_id, holder, lease_ends_at=value)
        if verdict < 0:
            return Permit(False, tenant_id, holder, _busy_wait(), limit=limits.at_once)
        return Permit(False, tenant_id, holder, value / 1_000_000, limit=limits.in_interval)

    def release(self, permit: Permit) -> None:
        if not permit.granted or self._limits.max_concurrent is None:
            return
        try:
            script = self._client().register_script(_RELEASE)
            script(self._keys(permit.tenant_id)[:1], [permit.holder, permit.lease_ends_at])
        except redis.RedisError:
            # The job is done, and must not fail for this. The lease frees the place.
            log.warning("rate_limit_not_released", limiter=self.name, exc_info=True)

    def _client(self) -> redis.Redis:
        if self._own_client is not None:
            return self._own_client
        return cache_client()

    def _lease(self) -> float:
        if self._lease_seconds is not None:
            return self._lease_seconds
        settings = get_settings()
        return settings.default_timeout_seconds + settings.hard_timeout_grace_seconds

    def _keys(self, tenant_id: str) -> list[str]:
        # The braces keep a limit's keys together on one node of a Redis cluster.
        key = f"{get_settings().key_prefix}cgk:limit:{{{self.name}:{tenant_id}}}"
        return [f"{key}:places", f"{key}:starts", f"{key}:return"]


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
