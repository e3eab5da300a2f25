"""Celery's canvas on runs: links, chains, groups and chords are kept with the run and go on when it closes.

Everything here happens inside the transaction that closes the run, so a worker that dies loses no link.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cgk_tasks.runs.codec import encode

if TYPE_CHECKING:
    from celery import Celery

    from cgk_tasks.postgres import Row
    from cgk_tasks.runs.store import Claimed
    from cgk_tasks.tasks.base import TenantTask

_KEPT = (
    "link", "link_error", "chain", "chord", "group_id", "group_index", "root_id", "parent_id", "headers",
    "stamped_headers", "stamps", "replaced_task_nesting",
)  # fmt: skip


def kept(options: Mapping[str, Any]) -> str | None:
    """What a signature's options ask for beyond the run itself, as JSON; None if nothing."""
    found = {name: options[name] for name in _KEPT if options.get(name)}
    return encode(found) if found else None


def completed(task: TenantTask, run: Claimed, value: Any) -> None:
    """Send what follows a completed run: its links, the rest of its chain, the body of its chord."""


def failed(task: TenantTask, run: Claimed, error: BaseException | None) -> None:
    """Send what follows a run that will not complete: error links, and the failure of the chain's rest and the chord."""


def closed_without_worker(app: Celery, row: Row) -> None:
    """Send what follows a run that closed without a worker: expired, cancelled while it waited, a poison pill."""
