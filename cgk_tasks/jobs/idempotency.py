"""Idempotency keys that can be read back, and where `with_idempotency` keeps results."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import quote, unquote

from cgk_tasks.errors import CgkTasksError

if TYPE_CHECKING:
    from collections.abc import Callable

_SWEEP_SECONDS = 60.0


class IdempotencyKeyError(CgkTasksError, ValueError):
    """A text is no idempotency key, or a part is missing that a key needs."""

    code = "INVALID_INPUT"


class IdempotencyKey(NamedTuple):
    """The parts of a key. `extra` is None when the key has none."""

    tenant_id: str
    operation: str
    entity: str
    extra: str | None = None


def idempotency_key(tenant_id: str, operation: str, entity: str, extra: str | None = None) -> str:
    """Make a key for doing something once: `idempotency_key("acme", "payout", "p-7")` is `acme:payout:p-7`.

    The same parts always make the same key and different parts never do; `parse_idempotency_key` gives them back.
    Any text is allowed in a part; what is not a letter, digit or one of `_.-~` is escaped as in a URL. extra: what
    else tells two operations apart, such as a day. Raises IdempotencyKeyError, which is a ValueError, for a part
    that is empty (extra may be) or no text.
    """
    for name, part in (("tenant_id", tenant_id), ("operation", operation), ("entity", entity)):
        if not isinstance(part, str) or not part:
            raise IdempotencyKeyError(f"An idempotency key needs {name} as a non-empty text, not {part!r}.")
    if extra is not None and not isinstance(extra, str):
        raise IdempotencyKeyError(f"The extra part of an idempotency key must be a text or None, not {extra!r}.")
    parts = (tenant_id, operation, entity) if extra is None else (tenant_id, operation, entity, extra)
    return ":".join(quote(part, safe="", errors="surrogatepass") for part in parts)


generate_idempotency_key = idempotency_key
"""The name that users of other job libraries know."""


def parse_idempotency_key(key: str) -> IdempotencyKey:
    """Return the parts of a key that `idempotency_key` made. Raises IdempotencyKeyError, which is a ValueError."""
    parts = key.split(":") if isinstance(key, str) else []
    try:
        parsed = IdempotencyKey(*(unquote(part, errors="surrogatepass") for part in parts))
        if idempotency_key(*parsed) == key:
            return parsed
    except (TypeError, ValueError):
        pass
    raise IdempotencyKeyError(
        f"{key!r} is no idempotency key. Make keys with idempotency_key(tenant_id, operation, entity, extra)."
    )


class IdempotencyStorage(Protocol):
    """Where `with_idempotency` keeps results. TenantCache is one; `name` is unique over all tenants."""

    def get(self, name: str) -> str | bytes | None:
        """The value, or None if there is none or its time is over."""

    def set(self, name: str, value: str, *, seconds: float) -> None:
        """Keep a value for so many seconds."""


class MemoryStorage:
    """Keeps results in this process: for tests and the local provider. Safe in threads.

    clock: the time in seconds, for tests.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, str]] = {}
        self._sweep_at = clock() + _SWEEP_SECONDS

    def get(self, name: str) -> str | None:
        with self._lock:
            ends_at, value = self._entries.get(name, (0.0, None))
            return value if ends_at > self._clock() else None

    def set(self, name: str, value: str, *, seconds: float) -> None:
        with self._lock:
            now = self._clock()
            if now >= self._sweep_at:
                self._entries = {key: entry for key, entry in self._entries.items() if entry[0] > now}
                self._sweep_at = now + _SWEEP_SECONDS
            self._entries[name] = (now + seconds, value)
