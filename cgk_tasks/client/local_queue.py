"""What the local provider runs next, and which idempotency keys it remembers. Used under the provider's lock."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Sequence
from datetime import datetime, timedelta

from cgk_tasks.errors import IdempotencyConflictError
from cgk_tasks.runs.models import NewRun

_PURGE_AT = 1000


class DueQueue:
    """Runs that are ready, the most urgent first, and times at which to look at a run again."""

    def __init__(self) -> None:
        self._ready: list[tuple[int, int, str]] = []
        self._times: list[tuple[datetime, int, str]] = []
        self._order = itertools.count()

    def add_ready(self, run_id: str, priority: int) -> None:
        heapq.heappush(self._ready, (-priority, next(self._order), run_id))

    def pop_ready(self) -> str | None:
        return heapq.heappop(self._ready)[2] if self._ready else None

    def look_at(self, time: datetime, run_id: str) -> None:
        heapq.heappush(self._times, (time, next(self._order), run_id))

    def pop_due(self, now: datetime) -> list[str]:
        """The runs whose time has come."""
        due = []
        while self._times and self._times[0][0] <= now:
            due.append(heapq.heappop(self._times)[2])
        return due

    def seconds_to_next(self, now: datetime) -> float | None:
        return (self._times[0][0] - now).total_seconds() if self._times else None


class IdempotencyKeys:
    """Which run a tenant's key of an event made."""

    def __init__(self) -> None:
        self._keys: dict[tuple[str, str, str], tuple[str, bytes, datetime]] = {}
        self._purge_at = _PURGE_AT

    def match(self, runs: Sequence[NewRun], now: datetime, seconds: float) -> dict[str, str]:
        """Remember the keys of `runs`, all or none; returns the earlier run's id for each run whose key was taken.

        Raises IdempotencyConflictError when a key was used with another payload.
        """
        taken: dict[tuple[str, str, str], tuple[str, bytes, datetime]] = {}
        earlier: dict[str, str] = {}
        for run in runs:
            if run.idempotency_key is None:
                continue
            key = (run.tenant_id, run.event, run.idempotency_key)
            digest = hashlib.sha256(run.payload.encode()).digest()
            known = taken.get(key) or self._keys.get(key)
            if known is None or known[2] <= now:
                taken[key] = (run.id, digest, now + timedelta(seconds=seconds))
            elif known[1] != digest:
                raise IdempotencyConflictError(run.event, run.idempotency_key, known[0])
            else:
                earlier[run.id] = known[0]
        self._keys |= taken
        self._purge(now)
        return earlier

    def move(self, run: NewRun, to_run: str) -> None:
        """Have the key of a run lead to another one, which it became part of."""
        if run.idempotency_key is not None and to_run != run.id:
            key = (run.tenant_id, run.event, run.idempotency_key)
            self._keys[key] = (to_run, *self._keys[key][1:])

    def forget(self, runs: Sequence[NewRun]) -> None:
        """Free the keys of runs that were not accepted after all."""
        for run in runs:
            if run.idempotency_key is not None:
                self._keys.pop((run.tenant_id, run.event, run.idempotency_key), None)

    def _purge(self, now: datetime) -> None:
        """Drop what has expired, each time the keys have doubled: cheap on average."""
        if len(self._keys) > self._purge_at:
            self._keys = {key: value for key, value in self._keys.items() if value[2] > now}
            self._purge_at = max(_PURGE_AT, 2 * len(self._keys))
