"""What is looked at when a tenant sends that may have so many runs wait, or so many a day. Others pay nothing for it.

Runs that the framework makes (schedules, children, what follows in a canvas, replays) are not refused.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg

from cgk_tasks.admission.set_rules import OfTenant, set_rules
from cgk_tasks.errors import QueueFullError, QuotaExceededError
from cgk_tasks.logger import get_logger
from cgk_tasks.runs.models import NewRun, RunHandle
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, execute, explain, fetch, statements

SQL = statements("limits")
log = get_logger("cgk_tasks.sender")

_TRUST_SECONDS: Final = 1.0
_LONGEST_RETRY_SECONDS: Final = 60.0
_LOOKED_AT: Final = 10_000
"""Of what is dispatched and not begun, of all tenants."""


@dataclass
class _Room:
    """For how many runs more a tenant has room, as of the last look. retry_after: grows while there is none."""

    runs: int = 0
    trusted_until: float = 0.0
    retry_after: float = _TRUST_SECONDS


class Quotas:
    """What this process knows of the tenants for whom it sends, and who may not have any number of runs wait."""

    def __init__(self) -> None:
        self._rooms: dict[str, _Room] = {}

    def take(self, tenant_id: str, limit: int, runs: int, queues: Sequence[str]) -> None:
        """Take so much of the tenant's room. Raises QueueFullError."""
        room = self._rooms.setdefault(tenant_id, _Room())
        now = time.monotonic()
        if now >= room.trusted_until:
            values = {"tenant_id": tenant_id, "limit": limit, "queues": queues, "looked_at": _LOOKED_AT}
            with autocommit() as connection:
                room.runs = limit - fetch(connection, SQL["count_waiting"], values)[0]["runs"]
            room.trusted_until = now + _TRUST_SECONDS
            was = room.retry_after
            room.retry_after = _TRUST_SECONDS if room.runs >= runs else min(2 * was, _LONGEST_RETRY_SECONDS)
        if room.runs < runs:
            raise QueueFullError(limit, tenant_id=tenant_id, retry_after=room.retry_after)
        room.runs -= runs

    def give_back(self, tenant_id: str, runs: int) -> None:
        if room := self._rooms.get(tenant_id):
            room.runs += runs


QUOTAS = Part(Quotas)


class Counted:
    """The sends that have been counted, until it is known what became of them."""

    def __init__(self) -> None:
        self.runs: Counter[str] = Counter()
        self.waiting: Counter[str] = Counter()

    def made(self, runs: Sequence[NewRun], handles: Sequence[RunHandle]) -> None:
        """These were sent. Those that made no run of their own do not count."""
        if not self.runs and not self.waiting:
            return
        again = Counter(
            run.tenant_id for run, handle in zip(runs, handles, strict=True) if handle.outcome != "accepted"
        )
        self.runs &= again
        self.waiting &= again


def are_limited(runs: Sequence[NewRun]) -> bool:
    """Whether one of them is of a tenant whose sends are counted."""
    return bool(_limits_of(runs))


def _limits_of(runs: Sequence[NewRun]) -> dict[str, OfTenant]:
    known = set_rules()
    if not known:
        return {}
    return {
        tenant: may
        for tenant in {run.tenant_id for run in runs}
        if (may := known.of_tenant(tenant)).daily_runs is not None or may.max_waiting is not None
    }


@contextmanager
def counted(runs: Sequence[NewRun]) -> Iterator[Counted]:
    """Count sends of tenants that may not send any number. The block accepts them, and says so; what it does not accept
    does not count. Raises QueueFullError, QuotaExceededError, StoreError: then none of them is sent.
    """
    sends = Counted()
    limited = _limits_of(runs)
    if not limited:
        yield sends
        return
    try:
        try:
            for tenant, may in sorted(limited.items()):
                _count(sends, tenant, may, [run for run in runs if run.tenant_id == tenant])
        except (QueueFullError, QuotaExceededError) as exc:
            _note_rejected(exc, runs)
            raise
        except psycopg.Error as exc:
            raise explain(exc) from exc
        yield sends
    finally:
        _uncount(sends)


def _count(sends: Counted, tenant_id: str, may: OfTenant, runs: Sequence[NewRun]) -> None:
    number = len(runs)
    try:
        _take(sends, tenant_id, may, number, runs)
    except (QueueFullError, QuotaExceededError):
        fresh = number - _sent_before(runs)
        if fresh == number:
            raise
        if fresh:
            _take(sends, tenant_id, may, fresh, runs)


def _take(sends: Counted, tenant_id: str, may: OfTenant, number: int, runs: Sequence[NewRun]) -> None:
    if may.max_waiting is not None and sends.waiting[tenant_id] == 0:
        QUOTAS.current().take(tenant_id, may.max_waiting, number, sorted({run.queue for run in runs}))
        sends.waiting[tenant_id] = number
    if may.daily_runs is not None:
        values = {"tenant_id": tenant_id, "runs": number, "limit": may.daily_runs}
        with autocommit() as connection:
            if number > may.daily_runs or not fetch(connection, SQL["count_send"], values):
                retry_after = fetch(connection, SQL["until_tomorrow"])[0]["seconds"]
                raise QuotaExceededError(tenant_id, may.daily_runs, retry_after)
        sends.runs[tenant_id] = number


def _sent_before(runs: Sequence[NewRun]) -> int:
    """How many of these were sent before, as their idempotency keys say: they make no run, and are not refused."""
    keyed = [run for run in runs if run.idempotency_key]
    if not keyed:
        return 0
    values = {
        "tenant_id": [run.tenant_id for run in keyed],
        "event": [run.event for run in keyed],
        "key": [run.idempotency_key for run in keyed],
    }
    with autocommit() as connection:
        found = {(row["event"], row["key"]) for row in fetch(connection, SQL["known_keys"], values)}
    return sum((run.event, run.idempotency_key) in found for run in keyed)


def _note_rejected(exc: QueueFullError | QuotaExceededError, runs: Sequence[NewRun]) -> None:
    """For the usage of the tenant, which counts what was refused."""
    from cgk_tasks.runs.usage import note_rejected  # few sends are refused

    tenant = exc.tenant_id or ""
    number = sum(run.tenant_id == tenant for run in runs)
    try:
        note_rejected(tenant, number)
    except psycopg.Error as failed:
        log.warning("refusal_not_counted", tenant=tenant, runs=number, reason=str(failed).strip())


def _uncount(sends: Counted) -> None:
    for tenant, number in sends.waiting.items():
        QUOTAS.current().give_back(tenant, number)
    for tenant, number in sends.runs.items():
        if number:
            try:
                with autocommit() as connection:
                    execute(connection, SQL["uncount_send"], {"tenant_id": tenant, "runs": number})
            except psycopg.Error as exc:
                log.warning("sends_not_uncounted", tenant=tenant, runs=number, reason=str(exc).strip())
