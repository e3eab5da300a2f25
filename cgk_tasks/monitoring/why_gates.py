"""What may hold a run, and how times and numbers are said about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

GateCode = Literal[
    "not_due", "waits_for_retry", "limit", "tenant_suspended", "queue_paused", "paused", "unknown_tenant", "no_worker",
    "no_listener", "workers_drained", "no_job", "waits_for_worker", "broker_down", "after_a_crash", "not_dispatched",
    "in_queue", "running", "worker_silent", "waits_for_children", "workflow_waits", "being_cancelled", "being_released",
    "in_lane", "guard", "closed",
]  # fmt: skip

COUNT_TO: Final = 10_000
"""Runs that come before another one are counted up to this."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One thing that holds a run. `hint`: what to do, empty if waiting is enough. `until`: when it opens, if known."""

    code: GateCode
    text: str
    hint: str = ""
    until: datetime | None = None


def counted(runs: int) -> str:
    return f"more than {COUNT_TO:,}" if runs > COUNT_TO else f"{runs:,}"


def when(moment: datetime, now: datetime) -> str:
    return f"{time_text(moment)} (in {span_text(moment - now)})"


def span_text(length: timedelta) -> str:
    seconds = max(length.total_seconds(), 0)
    for size, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def time_text(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def expected_text(moment: datetime) -> str:
    """When a run is expected to start, in words."""
    return f"It is expected to start at about {when(moment, datetime.now(UTC))}: an estimate."
