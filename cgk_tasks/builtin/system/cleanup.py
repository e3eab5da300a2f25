"""The job of `system.cleanup`. For the tenant `platform` it works for all tenants, else for its own only."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import redis
import structlog

from cgk_tasks.broker.without import has_broker
from cgk_tasks.builtin.job import builtin_job
from cgk_tasks.catalog.system import SystemCleanup
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import redis_py_url
from cgk_tasks.errors import PermanentError
from cgk_tasks.jobs.context import JobContext
from cgk_tasks.jobs.retry import RetryConfig
from cgk_tasks.runs import bodies
from cgk_tasks.sql.postgres import Connection, autocommit, execute, fetch, statements
from cgk_tasks.tenancy.platform import is_platform

SQL = statements("housekeeping")
log = structlog.get_logger("cgk_tasks.cleanup")

DEFAULT_DAYS: Final = 30
TEMPORARY: Final = "tmp"
"""The folder in a tenant's storage whose files may be deleted: `tenant_storage_path("tmp", ...)`."""

_AT_ONCE: Final = 10_000
_DAY_SECONDS: Final = 86_400.0


def clean_up(ctx: JobContext[SystemCleanup]) -> dict[str, int]:
    """Delete what the target names and is older than `older_than_days` (30). Safe to repeat."""
    days = DEFAULT_DAYS if ctx.payload.older_than_days is None else ctx.payload.older_than_days
    if days < 1:
        raise PermanentError(f"olderThanDays is {days}; at least 1 day must be kept.", "INVALID_INPUT")
    tenant_id = None if is_platform(ctx.tenant) else ctx.tenant_id
    return {"deleted": _TARGETS[ctx.payload.target](tenant_id, days)}


def _logs(tenant_id: str | None, days: int) -> int:
    """Runs that went well, and what any run logged; dead letters stay until CGK_HISTORY_DAYS have passed."""
    values = {"tenant_id": tenant_id, "days": days}
    return _delete_in_batches(_forget_closed_runs, values) + _delete_in_batches(_deleting("forget_run_logs"), values)


def _forget_closed_runs(connection: Connection, values: Mapping[str, Any]) -> int:
    with connection.transaction():
        rows = fetch(connection, SQL["forget_closed_runs"], values)
        bodies.forget(connection, [row["reference"] for row in rows if row["reference"] is not None])
    return len(rows)


def _expired_keys(tenant_id: str | None, days: int) -> int:  # noqa: ARG001 - keys say themselves when they expire
    """Idempotency keys whose time is over: what is left of senders' sessions."""
    return _delete_in_batches(_deleting("forget_keys"), {"tenant_id": tenant_id})


def _deleting(statement: str) -> Callable[[Connection, Mapping[str, Any]], int]:
    return lambda connection, values: execute(connection, SQL[statement], values)


def _delete_in_batches(delete: Callable[[Connection, Mapping[str, Any]], int], values: Mapping[str, Any]) -> int:
    """A short transaction for each batch, so that no other waits long."""
    total = 0
    while True:
        with autocommit() as connection:
            deleted = delete(connection, {**values, "limit": _AT_ONCE})
        total += deleted
        if deleted < _AT_ONCE:
            return total


def _idle_cache(tenant_id: str | None, days: int) -> int:
    """Entries of the tenant cache without an expiry that nobody has read for so long."""
    settings = get_settings()
    if settings.cache_url is None and not has_broker():
        return 0
    url = settings.cache_url.get_secret_value() if settings.cache_url else settings.broker
    pattern = f"{_literal(settings.key_prefix)}cgk:cache:{tenant_id or '*'}:*"
    deleted = 0
    with redis.Redis.from_url(redis_py_url(url), socket_timeout=10) as client:
        for key in client.scan_iter(match=pattern, count=1000):
            if client.ttl(key) == -1 and _idle_seconds(client, key) >= days * _DAY_SECONDS:
                deleted += int(client.delete(key))
    return deleted


def _literal(prefix: str) -> str:
    """A text that a Redis pattern takes as it is."""
    return "".join(f"\\{character}" if character in "*?[]^-\\" else character for character in prefix)


def _idle_seconds(client: redis.Redis, key: bytes) -> float:
    try:
        return float(client.object("idletime", key) or 0)
    except redis.ResponseError:  # a Redis that counts uses instead (maxmemory-policy lfu)
        return 0.0


def _temporary_files(tenant_id: str | None, days: int) -> int:
    root = get_settings().storage_root
    before = time.time() - days * _DAY_SECONDS
    deleted = 0
    for path in _old_files(root, tenant_id, before):
        try:
            path.unlink()
        except FileNotFoundError:
            continue
        except OSError as exc:  # one that cannot be deleted keeps no others
            log.warning("file_not_deleted", path=str(path), reason=exc.strerror)
        else:
            deleted += 1
    return deleted


def _old_files(root: Path, tenant_id: str | None, before: float) -> Iterator[Path]:
    """Never through a symbolic link: it may lead anywhere."""
    tenants = [root / tenant_id] if tenant_id else ([*root.iterdir()] if root.is_dir() else [])
    for tenant in tenants:
        folder = tenant / TEMPORARY
        if tenant.is_symlink() or not _is_folder(folder):
            continue
        for parent, _folders, names in os.walk(folder, onerror=_log_unreadable):
            yield from (path for name in names if _changed_at(path := Path(parent, name)) < before)


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as exc:
        _log_unreadable(exc)
        return False


def _log_unreadable(exc: OSError) -> None:
    log.warning("folder_not_read", path=str(exc.filename), reason=exc.strerror)


def _changed_at(path: Path) -> float:
    try:
        return path.lstat().st_mtime
    except OSError:
        return float("inf")


_TARGETS: Final[Mapping[str, Callable[[str | None, int], int]]] = {
    "logs": _logs,
    "sessions": _expired_keys,
    "cache": _idle_cache,
    "temp": _temporary_files,
}

JOBS: Final = (
    builtin_job(
        "system.cleanup", clean_up, retry=RetryConfig(max_attempts=3, initial_delay=5, max_delay=60), timeout=1800
    ),
)
