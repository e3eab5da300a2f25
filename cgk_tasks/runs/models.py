"""A run, its states, and what a sender gets back."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple

import uuid_utils

State = Literal[
    "scheduled",
    "pending",
    "held",
    "running",
    "retrying",
    "completed",
    "failed",
    "cancelled",
    "expired",
    "unhandled",
]
OPEN_STATES: frozenset[State] = frozenset({"scheduled", "pending", "held", "running", "retrying"})
CLOSED_STATES: frozenset[State] = frozenset({"completed", "failed", "cancelled", "expired", "unhandled"})
TRANSITIONS: Mapping[State, tuple[State, ...]] = {
    "scheduled": ("pending", "held", "cancelled", "expired"),
    "pending": ("running", "held", "cancelled", "expired"),
    "held": ("pending", "scheduled", "running", "cancelled", "expired"),
    "running": ("completed", "failed", "cancelled", "unhandled", "retrying", "pending", "held", "scheduled"),
    "retrying": ("pending", "held", "cancelled", "expired"),
}
"""What a run goes on to from each open state, as the statements in sql/ do it. Nothing leaves a closed one."""

DEFAULT_PRIORITY = 5
"""Priorities go from 0 (can wait) to 9 (urgent), on every broker."""

_LONGEST_QUEUE_NAME = 200


def is_queue_name(value: object) -> bool:
    """Whether it can be a queue's name: a text of 1 to 200 printable characters."""
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _LONGEST_QUEUE_NAME


def is_priority(value: object) -> bool:
    """Whether it is a whole number from 0 to 9."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 9


_EXTERNAL_IDS = uuid.UUID("6f1d3f3e-6d2a-4d0c-9a0e-5f3f5a1c7e21")


def new_run_id() -> str:
    """A UUIDv7: ids sort by the time they were made, so new runs land on the same index pages."""
    return str(uuid_utils.uuid7())


def first_run_id(moment: datetime) -> str:
    """The least id that a run can have which is made at this moment."""
    return str(uuid.UUID(int=int(moment.timestamp() * 1000) << 80))


def run_id_of(task_id: str) -> str:
    """The run id of a Celery task id: the id itself if it is a UUID, else one derived from it (always the same)."""
    try:
        return str(uuid.UUID(task_id))
    except ValueError:
        return str(uuid.uuid5(_EXTERNAL_IDS, task_id))


class Place(NamedTuple):
    """Where a held run waits: its lane, and since when it is due."""

    lane: int
    rank: datetime


class NewRun(NamedTuple):
    """A run about to be accepted. `payload` is JSON text; `canvas` what a Celery signature carries, as JSON text."""

    id: str
    tenant_id: str
    event: str
    payload: str
    queue: str
    priority: int = DEFAULT_PRIORITY
    state: State = "pending"
    job: str | None = None
    max_attempts: int | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    idempotency_key: str | None = None
    parent_id: str | None = None
    replay_of: str | None = None
    canvas: str | None = None
    scheduled_for: datetime | None = None
    trace: str | None = None
    """The trace context of its sender, as W3C's traceparent."""
    search_fields: str | None = None
    """What can be searched of it, where its sender knows; else it is read from the payload."""
    place: Place | None = None
    """Of a run that is held until a pass admits it."""
    is_ruled: bool = False
    """Whether its event's job has rules that decide what becomes of a send."""
    ttl: float | None = None
    """Of such a send whose life ends so many seconds after it is due, as its job says."""
    merge_key: str | None = None
    """Of a run that waits for further sends: those with the same key become part of it."""
    single_key: str | None = None
    """Of a run that is the only open one with this key."""

    def like_this(self, run_id: str, payload: str, search_fields: str | None, place: Place | None = None) -> NewRun:
        """The same run with an id, a payload and a place of its own: as `_replace`, in a third of the time."""
        values: list[Any] = list(self)
        values[_ID], values[_PAYLOAD], values[_SEARCH_FIELDS], values[_PLACE] = run_id, payload, search_fields, place
        return NewRun._make(values)

    def held_at(self, place: Place) -> NewRun:
        """The same run, which waits there; likewise."""
        values: list[Any] = list(self)
        values[_STATE], values[_PLACE] = "held", place
        return NewRun._make(values)

    @property
    def is_plain(self) -> bool:
        """Whether it is due, and nothing is said of it but what it is."""
        return self.state == "pending" and self[_JOB:_SEARCH_FIELDS] == _UNSAID and self[_PLACE:] == _NOT_RULED

    @property
    def alone(self) -> bool:
        """As of a Dispatch: a new run may travel with others."""
        return False

    @property
    def dispatched_at(self) -> None:
        """As of a Dispatch: only the record knows."""
        return None


_ID, _PAYLOAD, _STATE, _JOB, _SEARCH_FIELDS, _PLACE = map(
    NewRun._fields.index, ("id", "payload", "state", "job", "search_fields", "place")
)
_PLAIN = NewRun("", "", "", "", "")
_UNSAID, _NOT_RULED = _PLAIN[_JOB:_SEARCH_FIELDS], _PLAIN[_PLACE:]

Outcome = Literal["accepted", "deduplicated", "merged", "skipped"]


@dataclass(frozen=True, slots=True)
class RunHandle:
    """What a send returns: the id of the run, and what became of the send.

    outcome: "accepted", it made this run. "deduplicated", an earlier send with the same idempotency key did.
    "merged", it became part of this run, which an earlier send had made (Debounce, Batch). "skipped", it made no run:
    with Singleton the id is that of the open one, with RateLimit there is no run of this id.
    """

    id: str
    deduplicated: bool = False
    instead: Literal["merged", "skipped"] | None = None

    @property
    def outcome(self) -> Outcome:
        """What became of the send."""
        return self.instead or ("deduplicated" if self.deduplicated else "accepted")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, as its job told it. at: when.

    total: None where the job knows none.
    """

    done: float
    total: float | None = None
    message: str = ""
    at: datetime | None = None

    @property
    def share(self) -> float | None:
        """How much of the total is done, from 0 to 1; None without a total."""
        if self.total is None:
            return None
        return min(self.done / self.total, 1.0) if self.total else 1.0


@dataclass(frozen=True, slots=True)
class RunStatus:
    """A run as it stands in the record. Times are aware datetimes in UTC.

    `errors` has one entry per failed attempt, with when it ended (`at`) and began (`began_at`, where that is known),
    and its `trace` where runs are traced: the first and the last 20; `errors_left_out` counts those between.
    `progress` and `metadata` are what the job told last; lists of runs are without them.
    """

    id: str
    tenant_id: str
    event: str
    state: State
    job: str | None = None
    attempt: int = 0
    max_attempts: int | None = None
    deaths: int = 0
    queue: str = ""
    priority: int = DEFAULT_PRIORITY
    payload: Any = None
    result: Any = None
    error_code: str | None = None
    errors: list[Mapping[str, Any]] = field(default_factory=list)
    errors_left_out: int = 0
    run_at: datetime | None = None
    expires_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    closed_at: datetime | None = None
    worker_id: str | None = None
    parent_id: str | None = None
    replay_of: str | None = None
    idempotency_key: str | None = None
    cancel_requested_at: datetime | None = None
    schedule: str | None = None
    scheduled_for: datetime | None = None
    progress: Progress | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_closed(self) -> bool:
        return self.state in CLOSED_STATES

    @property
    def error(self) -> Mapping[str, Any] | None:
        """The last attempt's error, if it failed: attempt, type, code, message, traceback."""
        return self.errors[-1] if self.errors else None


class Dispatch(NamedTuple):
    """What the broker needs to know of a run. A NewRun says it too."""

    id: str
    tenant_id: str
    event: str
    queue: str
    priority: int
    alone: bool = False
    """Not in a packet with others: this run's process died before."""
    dispatched_at: datetime | None = None
    """As the record has it."""

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Dispatch:
        """Of a row that a statement which dispatches returns."""
        return cls(
            row["id"], row["tenant_id"], row["event"], row["queue"], row["priority"],
            alone=row["deaths"] > 0, dispatched_at=row["handed_over_at"],
        )  # fmt: skip
