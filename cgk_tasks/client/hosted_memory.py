"""What this process knows of its own sends to a hosted system, which answers late or not at all about them."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime

from cgk_tasks.errors import IdempotencyConflictError
from cgk_tasks.runs.models import NewRun, RunStatus

_MOST = 10_000

Key = tuple[str, str, str]


def key_of(run: NewRun) -> Key | None:
    """An idempotency key belongs to one tenant and one event."""
    return None if run.idempotency_key is None else (run.tenant_id, run.event, run.idempotency_key)


@dataclass(frozen=True, slots=True)
class _Sent:
    run_id: str
    digest: bytes
    forget_at: float


class SentKeys:
    """Which run an idempotency key made here. Other processes' sends are the system's own business. Safe in threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[Key, _Sent] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, run: NewRun) -> str | None:
        """The earlier run of this run's key. Raises IdempotencyConflictError if that had another payload."""
        key = key_of(run)
        with self._lock:
            known = self._known.get(key) if key else None
        if key is None or known is None or known.forget_at <= time.monotonic():
            return None
        if known.digest != _digest(run):
            raise IdempotencyConflictError(run.event, key[2], known.run_id)
        return known.run_id

    def remember(self, run: NewRun, run_id: str, seconds: float) -> None:
        key = key_of(run)
        if key is None:
            return
        with self._lock:
            self._known[key] = _Sent(run_id, _digest(run), time.monotonic() + seconds)
            self._known.move_to_end(key)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)


def _digest(run: NewRun) -> bytes:
    return hashlib.sha256(run.payload.encode()).digest()


class SentRuns:
    """The newest sends, by the ids that the system gave them. Without their payloads. Safe in threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, RunStatus] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, run: NewRun, run_id: str) -> None:
        now = datetime.now(UTC)
        self.note(RunStatus(
            id=run_id, tenant_id=run.tenant_id, event=run.event, state=run.state, max_attempts=run.max_attempts,
            queue=run.queue, priority=run.priority, run_at=run.run_at or now, expires_at=run.expires_at, created_at=now,
            idempotency_key=run.idempotency_key,
        ))  # fmt: skip

    def note(self, status: RunStatus) -> None:
        with self._lock:
            self._known[status.id] = status
            if len(self._known) > _MOST:
                self._known.popitem(last=False)

    def find(self, run_id: str) -> RunStatus | None:
        """The run as it was sent."""
        with self._lock:
            return self._known.get(run_id)
