"""The list of runs: filters, and pages by key, so that the hundredth page costs what the first does."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

from cgk_tasks.dashboard.data.queries import SQL, read_transaction
from cgk_tasks.events import django_task  # noqa: F401 - so that its runs can be searched as those of the catalog
from cgk_tasks.events.base import searchable_fields
from cgk_tasks.events.redaction import Redaction, summary
from cgk_tasks.events.registry import all_events, event_name
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import CLOSED_STATES, OPEN_STATES, State
from cgk_tasks.runs.sealing import opened
from cgk_tasks.sql.postgres import Row, fetch

PAGE_SIZE = 50

_BEGINNING = datetime(2004, 11, 4, tzinfo=UTC)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)
_LARGEST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"


@dataclass(frozen=True, slots=True)
class Key:
    """Where a page ends: the time and the id of its last run."""

    sent_at: datetime
    run_id: str

    def __str__(self) -> str:
        return f"{self.sent_at.timestamp():.6f}_{self.run_id}"

    @classmethod
    def parse(cls, text: str) -> Key | None:
        """The key as `str()` wrote it; None for anything else."""
        moment, _, run_id = text.partition("_")
        try:
            return cls(datetime.fromtimestamp(float(moment), UTC), str(uuid.UUID(run_id)))
        except (ValueError, OverflowError, OSError):
            return None


@dataclass(frozen=True, slots=True)
class RunFilter:
    """What to list. `text` is looked for in the payload fields that events mark as searchable."""

    tenant_id: str = ""
    event: str = ""
    job: str = ""
    state: State | None = None
    error_code: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class ListedRun:
    """A line of the list. `summary` has the searchable fields of the payload, and nothing else of it; error_code may
    quote it, and is redacted.
    """

    id: str
    sent_at: datetime
    tenant_id: str
    event: str
    job: str | None
    state: State
    attempt: int
    run_at: datetime
    started_at: datetime | None
    closed_at: datetime | None
    error_code: str | None
    summary: Mapping[str, Any]
    parent_id: str | None
    replay_of: str | None


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, the last sent first. `next`: the key of the following page, None at the end."""

    runs: tuple[ListedRun, ...]
    next: Key | None


def find_runs(wanted: RunFilter, before: Key | None = None, limit: int = PAGE_SIZE) -> RunPage:
    """A page of the runs that match, open and closed. Raises QueryTimeoutError."""
    wanted = replace(wanted, event=event_name(wanted.event))
    values = _values(wanted, before) | {"limit": limit + 1}
    statement = SQL["merged_runs"].replace("{branches}", " UNION ALL ".join(_branches(wanted)))
    with read_transaction() as connection:
        rows = fetch(connection, statement, values)
    runs = tuple(_listed(opened(row)) for row in rows[:limit])
    return RunPage(runs, Key(runs[-1].sent_at, runs[-1].id) if len(rows) > limit else None)


def count_open() -> dict[State, int]:
    """Open runs by state."""
    with read_transaction() as connection:
        return {row["state"]: row["runs"] for row in fetch(connection, SQL["open_by_state"])}


def as_state(text: str) -> State | None:
    """The state of this name, None if there is none."""
    return cast("State", text) if text in get_args(State) else None


def _branches(wanted: RunFilter) -> list[str]:
    """The parts of the record to look at, each with the conditions that this filter needs: planned for just them."""
    common = [
        name
        for name, value in (
            ("where_tenant", wanted.tenant_id),
            ("where_event", wanted.event),
            ("where_job", wanted.job),
            ("where_state", wanted.state),
            ("where_text", wanted.text),
        )
        if value
    ]
    parts = []
    if wanted.state is None or wanted.state in OPEN_STATES:
        parts += [(name, "where_error_open") for name in ("open_runs", "open_external_runs")]
    if wanted.state is None or wanted.state in CLOSED_STATES:
        parts += [(name, "where_error_closed") for name in ("closed_runs", "closed_external_runs")]
    branches = []
    for name, by_error in parts:
        conditions = [SQL[condition] for condition in (*common, *([by_error] if wanted.error_code else []))]
        where = "".join(f"\n   AND ({condition})" for condition in conditions)
        branches.append(f"({SQL[name].replace('{where}', where)})")
    return branches


def _values(wanted: RunFilter, before: Key | None) -> dict[str, Any]:
    since, until = wanted.since or _BEGINNING, wanted.until or _END_OF_TIME
    before_at, before_id, before_v7 = until, _LARGEST_ID, _first_id(until)
    if before is not None and before.sent_at < until:
        before_at, before_id = before.sent_at, before.run_id
        is_v7 = uuid.UUID(before.run_id).version == 7
        before_v7 = before.run_id if is_v7 else _first_id(before.sent_at, after=True)
    searchable = [
        (model.event_name, field)
        for model in all_events()
        if wanted.text and wanted.event in {"", model.event_name}
        for field in searchable_fields(model, by_alias=True)
    ]
    return {
        "tenant_id": wanted.tenant_id, "event": wanted.event, "job": wanted.job, "state": wanted.state,
        "error_code": wanted.error_code, "text": wanted.text,
        "searchable_events": [name for name, _field in searchable],
        "searchable_fields": [field for _name, field in searchable],
        "since": since, "since_v7": _first_id(since), "before_at": before_at, "before_id": before_id,
        "before_v7": before_v7,
    }  # fmt: skip


def _first_id(moment: datetime, *, after: bool = False) -> str:
    """The smallest UUIDv7 of a moment's millisecond, or of the next one."""
    milliseconds = min(int(moment.timestamp() * 1000) + after, 2**48 - 1)
    digits = f"{milliseconds:012x}"
    return f"{digits[:8]}-{digits[8:]}-0000-0000-000000000000"


def _listed(row: Row) -> ListedRun:
    payload = decode(row["payload"])
    code = row["error_code"] and Redaction(row["event"], payload).text(row["error_code"])
    return ListedRun(
        row["id"], row["sent_at"], row["tenant_id"], row["event"], row["job"], row["state"],
        row["attempt"] - row["deaths"], row["run_at"], row["started_at"], row["closed_at"], code,
        summary(row["event"], payload), row["parent_id"], row["replay_of"],
    )  # fmt: skip
