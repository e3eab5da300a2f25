"""A cache in Redis whose keys carry the tenant, so that tenants cannot read each other's entries."""

from __future__ import annotations

import re
from itertools import islice
from typing import Any, Final

import redis

from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_redis, redis_py_url
from cgk_tasks.errors import BrokerError, ConfigurationError, as_seconds
from cgk_tasks.runtime import Part
from cgk_tasks.tenancy.context import current_tenant


class TenantCache:
    """Get, set and delete text or bytes for the current tenant. Raises TenantMissingError outside of one."""

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self._client, self._prefix = client, prefix

    def key(self, name: str) -> str:
        return f"{self._prefix}{_of(current_tenant().id)}{name}"

    def get(self, name: str) -> bytes | None:
        value: Any = self._client.get(self.key(name))
        return None if value is None else bytes(value)

    def set(self, name: str, value: str | bytes, *, seconds: float | None = None) -> None:
        """Store a value; `seconds`: how long, None for until it is deleted."""
        milliseconds = None if seconds is None else max(1, int(as_seconds(seconds) * 1000))
        self._client.set(self.key(name), value, px=milliseconds)

    def delete(self, name: str) -> bool:
        """Whether there was such an entry."""
        return bool(self._client.delete(self.key(name)))


_KEYS_AT_ONCE: Final = 1000


def _of(tenant_id: str) -> str:
    return f"cgk:cache:{tenant_id}:"


def clear(tenant_id: str) -> None:
    """Delete all entries of a tenant. Raises BrokerError while Redis is away."""
    keys = f"{get_settings().key_prefix}{_of(tenant_id)}"
    try:
        client = cache_client()
        found = client.scan_iter(match=f"{_escaped(keys)}*", count=_KEYS_AT_ONCE)
        while some := list(islice(found, _KEYS_AT_ONCE)):
            client.unlink(*some)
    except redis.RedisError as exc:
        raise BrokerError(
            f"The cache of tenant {tenant_id!r} cannot be cleared: {exc}.",
            hint="Is Redis reachable at CGK_CACHE_URL, or at CGK_BROKER_URL without it?",
        ) from exc


def _escaped(pattern: str) -> str:
    """For Redis, to which some characters of a prefix would stand for others."""
    return re.sub(r"([\\*?\[\]])", r"\\\1", pattern)


def tenant_cache() -> TenantCache:
    """The current tenant's cache, on CGK_CACHE_URL, or on the broker if that is Redis. Raises ConfigurationError."""
    return TenantCache(cache_client(), get_settings().key_prefix)


def cache_client() -> redis.Redis:
    """The connections to the cache's Redis. Whoever uses it must put the tenant into the keys."""
    return CLIENT.current()


def _connect() -> redis.Redis:
    settings = get_settings()
    url = settings.cache_url.get_secret_value() if settings.cache_url else settings.broker
    if not is_redis(url):
        raise ConfigurationError("The tenant cache needs Redis.", hint="Set CGK_CACHE_URL=redis://host:6379/1.")
    variable = "CGK_CACHE_URL" if settings.cache_url else "CGK_BROKER_URL"
    return redis.Redis.from_url(redis_py_url(url, variable), socket_connect_timeout=1.0, socket_timeout=5.0)


CLIENT = Part(_connect, close=redis.Redis.close)


def has_tenant_cache() -> bool:
    """Whether the settings name a Redis that `tenant_cache()` would use."""
    settings = get_settings()
    url = settings.cache_url or settings.broker_url
    return url is not None and is_redis(url.get_secret_value())
