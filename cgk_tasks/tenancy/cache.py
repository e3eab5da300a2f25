"""A cache in Redis whose keys carry the tenant, so that tenants cannot read each other's entries."""

from __future__ import annotations

import os
from typing import Any

import redis

from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, as_seconds
from cgk_tasks.tenancy.context import current_tenant


class TenantCache:
    """Get, set and delete text or bytes for the current tenant. Raises TenantMissingError outside of one."""

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self._client, self._prefix = client, prefix

    def key(self, name: str) -> str:
        return f"{self._prefix}cgk:cache:{current_tenant().id}:{name}"

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


_clients: dict[tuple[int, str], redis.Redis] = {}


def tenant_cache() -> TenantCache:
    """The current tenant's cache, on CGK_CACHE_URL, or on the broker if that is Redis. Raises ConfigurationError."""
    return TenantCache(cache_client(), get_settings().key_prefix)


def cache_client() -> redis.Redis:
    """The connections of this process to the cache's Redis. Whoever uses it must put the tenant into the keys."""
    settings = get_settings()
    url = settings.cache_url.get_secret_value() if settings.cache_url else settings.broker
    if url.startswith("redis+socket://"):
        path, _, query = url.removeprefix("redis+socket://").partition("?")
        url = f"unix://{path}?{query.replace('virtual_host=', 'db=')}"
    if not url.startswith(("redis:", "rediss:", "unix:")):
        raise ConfigurationError("The tenant cache needs Redis.", hint="Set CGK_CACHE_URL=redis://host:6379/1.")
    client = _clients.get((os.getpid(), url))
    if client is None:
        client = _clients[os.getpid(), url] = redis.Redis.from_url(url, socket_connect_timeout=1.0, socket_timeout=5.0)
    return client


def has_tenant_cache() -> bool:
    """Whether the settings name a Redis that `tenant_cache()` would use."""
    settings = get_settings()
    url = settings.cache_url or settings.broker_url
    return url is not None and url.get_secret_value().startswith(("redis", "unix:"))
