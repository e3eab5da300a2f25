"""The list of runs: filters, and pages by key, so that the hundredth page costs what the first does.

A filter that no index helps with is looked for among some of the newest runs only, and the page says so: the next one
goes on from there. So a page costs the same whether there are a hundred thousand runs on record or ten million.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, cast, get_args

from cgk_tasks.dashboard.data.last_runs import last_of
from cgk_tasks.dashboard.data.queries import SQL, read_transaction
from cgk_tasks.events import django_task  # noqa: F401 - so that its runs can be searched as those of the catalog
from cgk_tasks.events.base import searchable_fields
from cgk_tasks.events.redaction import redaction_of, summary
from cgk_tasks.events.registry import all_events, event_name
from cgk_tasks.runs import bodies
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import CLOSED_STATES, OPEN_STATES, State
from cgk_tasks.runs.sealing import opened_to_show
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import Connection, Row, fetch

PAGE_SIZE = 50
LOOKED_AT = 50_000
"""About so many runs a page looks at, where it has to look at each. Of one tenant a tenth: those lie scattered."""
MOST_COUNTED = 10_000
"""So many runs of the open and of the closed ones are counted by state."""

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
    """What to list. In `event` and `error_code`, * stands for any text. `text` is looked for in the payload fields that
    events mark as searchable. since, until: of sending; closed_since, closed_until: of the end. states: one of these,
    beside `state`; None for any.
    """

    tenant_id: str = ""
    event: str = ""
    job: str = ""
    state: State | None = None
    error_code: str = ""
    text: str = ""
    since: datetime | None = None
    until: datetime | None = None
    queue: str = ""
    closed_since: datetime | None = None
    closed_until: datetime | None = None
    states: frozenset[State] | None = None

    @property
    def is_of_closed(self) -> bool:
        """Whether it asks when runs closed, so that no open one matches."""
        return self.closed_since is not None or self.closed_until is not None

    @property
    def needs_look_at_each(self) -> bool:
        """Whether there is something in it that no index knows."""
        is_of_states = bool(self.state) or self.states is not None
        return is_of_states or bool(self.event or self.job or self.error_code or self.text or self.queue)

    def may_be(self, states: frozenset[State]) -> bool:
        """Whether a run in one of these states can match."""
        wanted = {self.state} & states if self.state else states
        return bool(wanted if self.states is None else wanted & self.states)

    def among(self, states: frozenset[State]) -> RunFilter:
        """The filter, of runs in these states alone."""
        return replace(self, states=states if self.states is None else self.states & states)


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
    """Runs, the last sent first. `next`: the key of the following page, None at the end. looked_until: only runs that
    were sent since then were looked at, and earlier ones may match; None if all were.
    """

    runs: tuple[ListedRun, ...]
    next: Key | None
    looked_until: datetime | None = None


def find_runs(
    wanted: RunFilter, before: Key | None = None, limit: int = PAGE_SIZE, *, look_at: int | None = None
) -> RunPage:
    """A page of the runs that match, open and closed. Raises QueryTimeoutError.

    look_at: of about so many, or a tenth of one tenant's, where no index helps with the filter; else of all.
    """
    with read_transaction() as connection:
        rows, following, looked_until = search_rows(connection, wanted, before, limit, look_at=look_at)
        bodies.brought(connection, rows)
    return RunPage(tuple(_listed(opened_to_show(row)) for row in rows), following, looked_until)


def search_rows(
    connection: Connection, wanted: RunFilter, before: Key | None, limit: int, *, look_at: int | None
) -> tuple[list[Row], Key | None, datetime | None]:
    """The rows of a page, with their content as it is stored, and what `RunPage` says of the others."""
    wanted = replace(wanted, event=event_name(wanted.event))
    values = _values(wanted, before) | {"limit": limit + 1}
    last = _look_at_some(connection, wanted, values, look_at)
    rows = fetch(connection, merged(SQL["merged_runs"], wanted), values)
    if len(rows) > limit:
        return rows[:limit], Key(rows[limit - 1]["sent_at"], rows[limit - 1]["id"]), None
    return rows, last, last.sent_at if last else None


def question(
    connection: Connection, statement: str, wanted: RunFilter, limit: int, *, look_at: int | None
) -> tuple[str, dict[str, Any], datetime | None]:
    """A statement about the newest runs that match, with its values; and since when they were sent, if earlier ones are
    not looked at.
    """
    wanted = replace(wanted, event=event_name(wanted.event))
    values = _values(wanted, None) | {"limit": limit}
    last = _look_at_some(connection, wanted, values, look_at)
    return merged(statement, wanted), values, last.sent_at if last else None


def still_matching(connection: Connection, wanted: RunFilter, ids: Collection[str]) -> set[str]:
    """Those of some runs that match now."""
    if not ids:
        return set()
    wanted = replace(wanted, event=event_name(wanted.event))
    values = _values(wanted, None) | {"limit": len(ids), "ids": list(ids)}
    return {row["id"] for row in fetch(connection, merged(SQL["merged_runs"], wanted, "where_ids"), values)}


def count_states(wanted: RunFilter) -> dict[State, int]:
    """How many runs of each state match, whatever state is wanted: of the newest MOST_COUNTED open and closed ones, and
    of those alone that the list's first page looks at. Raises QueryTimeoutError.
    """
    wanted = replace(wanted, state=None, states=None)
    with read_transaction() as connection:
        statement, values, _since = question(connection, SQL["states_of_runs"], wanted, MOST_COUNTED, look_at=LOOKED_AT)
        rows = fetch(connection, statement, values)
    return {row["state"]: row["runs"] for row in rows}


def _look_at_some(connection: Connection, wanted: RunFilter, values: dict[str, Any], look_at: int | None) -> Key | None:
    """Where each run has to be looked at, takes the last ones alone. Returns the key where those begin."""
    if look_at is None or not wanted.needs_look_at_each:
        return None
    runs = look_at // 10 if wanted.tenant_id else look_at
    since = last_of(connection, runs, min(values["before_at"], known_now()), wanted.tenant_id)
    if since is None or since <= values["since"]:
        return None
    key = Key(since, _first_id(since).replace("-0000-0000-", "-7000-8000-"))
    values["since"], values["since_v7"] = key.sent_at, key.run_id
    return key


def merged(statement: str, wanted: RunFilter, *more: str) -> str:
    """The statement on what matches. more: names of further conditions."""
    return statement.replace("{branches}", " UNION ALL ".join(_branches(wanted, more)))


def count_open(tenant_id: str = "") -> dict[State, int]:
    """Open runs by state, of one tenant or of all."""
    with read_transaction() as connection:
        rows = fetch(connection, SQL["open_by_state"], {"tenant_id": tenant_id or None})
    return {row["state"]: row["runs"] for row in rows}


def as_state(text: str) -> State | None:
    """The state of this name, None if there is none."""
    return cast("State", text) if text in get_args(State) else None


def _branches(wanted: RunFilter, more: Sequence[str]) -> list[str]:
    """The parts of the record to look at, each with the conditions that this filter needs: planned for just them."""
    common = [
        name
        for name, value in (
            ("where_tenant", wanted.tenant_id),
            (f"where_event{_like(wanted.event)}", wanted.event),
            ("where_job", wanted.job),
            ("where_queue", wanted.queue),
            ("where_state", wanted.state),
            ("where_states", wanted.states is not None),
            ("where_text", wanted.text),
        )
        if value
    ] + list(more)
    error = f"where_error_{{}}{_like(wanted.error_code)}"
    parts: list[tuple[str, list[str]]] = []
    if wanted.may_be(OPEN_STATES) and not wanted.is_of_closed:
        own = [error.format("open")] if wanted.error_code else []
        parts += [(name, own) for name in ("open_runs", "open_external_runs")]
    if wanted.may_be(CLOSED_STATES):
        own = [error.format("closed")] if wanted.error_code else []
        own += ["where_closed"] if wanted.is_of_closed else []
        parts += [(name, own) for name in ("closed_runs", "closed_external_runs")]
    if not parts:  # none can match: an open state, and a time of the end
        parts = [("closed_runs", ["where_closed"])]
    branches = []
    for name, own in parts:
        where = "".join(f"\n   AND ({SQL[condition]})" for condition in (*common, *own))
        branches.append(f"({SQL[name].replace('{where}', where)})")
    return branches


def _like(text: str) -> str:
    """What the name of the condition ends with where the text is a pattern."""
    return "_like" if "*" in text else ""


def _pattern(text: str) -> str:
    """A text for =, or where it has a * a pattern for LIKE."""
    if "*" not in text:
        return text
    return re.sub(r"([\\%_])", r"\\\1", text).replace("*", "%")


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
        if wanted.text and ("*" in wanted.event or wanted.event in {"", model.event_name})
        for field in searchable_fields(model, by_alias=True)
    ]
    return {
        "tenant_id": wanted.tenant_id, "event": _pattern(wanted.event), "job": wanted.job, "state": wanted.state,
        "states": sorted(wanted.states or ()),
        "error_code": _pattern(wanted.error_code), "text": wanted.text, "queue": wanted.queue,
        "closed_since": wanted.closed_since or _BEGINNING, "closed_until": wanted.closed_until or _END_OF_TIME,
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
    code = row["error_code"] and redaction_of(row["event"], row["payload"]).text(row["error_code"])
    return ListedRun(
        row["id"], row["sent_at"], row["tenant_id"], row["event"], row["job"], row["state"],
        row["attempt"] - row["deaths"], row["run_at"], row["started_at"], row["closed_at"], code,
        summary(row["event"], payload), row["parent_id"], row["replay_of"],
    )  # fmt: skip
