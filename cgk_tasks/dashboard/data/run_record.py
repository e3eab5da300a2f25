"""Everything about one run: its facts, its timeline, its errors, payload and relatives."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from cgk_tasks.dashboard.data.queries import SQL, read_transaction
from cgk_tasks.dashboard.data.relatives import Relative, relative_of
from cgk_tasks.dashboard.data.waterfall import Waterfall, waterfall_of
from cgk_tasks.errors import UnknownRunError
from cgk_tasks.events.redaction import Redaction, redacted, redaction_of
from cgk_tasks.events.typed_values import shown
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import CLOSED_STATES, State
from cgk_tasks.runs.plain_columns import trace_in
from cgk_tasks.runs.sealing import opened_to_show
from cgk_tasks.runs.shown_steps import EVERY, ShownStep, Some, some_steps_of
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import Row, fetch

_TAKE_SIGNALS: Final = frozenset({"signal", "any", "effect"})
_MAY_QUOTE_THE_PAYLOAD: Final = ("idempotency_key", "error_code", "cursor")
_STEPS: Final = Some(first=30, last=50, undone=20)


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """A line of the timeline: when, the state, and why."""

    at: datetime
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class RunRecord:
    """A run as its page shows it. Payload, result and errors are without personal data unless it was asked for.

    steps: of very many some, unless all were asked for. hide: takes personal data out of what else is shown of the run;
    None if it was asked for.
    """

    id: str
    state: State
    facts: Mapping[str, Any]
    payload: Any
    result: Any
    errors: tuple[Mapping[str, Any], ...]
    timeline: tuple[TimelineEntry, ...]
    relatives: tuple[Relative, ...]
    steps: tuple[ShownStep, ...]
    waterfall: Waterfall
    has_hidden: bool
    hide: Redaction | None = field(repr=False)

    @property
    def is_closed(self) -> bool:
        return self.state in CLOSED_STATES

    @property
    def signals(self) -> tuple[str, ...]:
        """The names of signals that it waits for, as they are shown: a decision about an effect is one, too."""
        waiting = [step for step in self.steps if step.kind in _TAKE_SIGNALS]
        return tuple(name for step in waiting for name in step.awaits if not name.startswith("event "))


def run_record(run_id: str, *, show_sensitive: bool = False, all_steps: bool = False) -> RunRecord:
    """The run's record. Raises UnknownRunError."""
    try:
        wanted = {"id": str(uuid.UUID(run_id))}
    except ValueError:
        raise UnknownRunError(run_id) from None
    with read_transaction() as connection:
        rows = fetch(connection, SQL["run"], wanted)
        if not rows:
            raise UnknownRunError(run_id)
        row = opened_to_show(rows[0])
        relatives = fetch(connection, SQL["relatives"], wanted)
        discarded = fetch(connection, SQL["discarded"], wanted) if row["state"] == "failed" else []
        worker = fetch(connection, SQL["worker"], {"id": row["worker_id"]}) if row["worker_id"] else []
        hide = None if show_sensitive else redaction_of(row["event"], row["payload"])
        payload = decode(row.pop("payload"))
        steps, steps_in_all = some_steps_of(connection, wanted["id"], hide, EVERY if all_steps else _STEPS)
    row["trace"] = row["trace"] or trace_in(row.pop("search_fields"))
    row["worker"] = worker[0]["name"] if worker else row["worker_id"]
    result = shown(row["event"], decode(row.pop("result")))
    errors = [dict(error) for error in row.pop("errors")]
    del row["key_id"]
    without = redacted(row["event"], payload)
    if hide is not None:
        result, errors = hide.data(result), [_without_quotes(error, hide) for error in hide.errors(errors)]
        for name in _MAY_QUOTE_THE_PAYLOAD:
            row[name] = hide.text(row[name]) if row[name] else None
    family = tuple(relative_of(opened_to_show(relative), show_sensitive=show_sensitive) for relative in relatives)
    return RunRecord(
        row["id"], row["state"], row, payload if hide is None else without, result, tuple(errors),
        tuple(_timeline(row, errors, discarded)), family, tuple(steps),
        waterfall_of(row, errors, family, steps, steps_in_all, known_now(), shows_all=all_steps),
        without != payload, hide,
    )  # fmt: skip


def _without_quotes(error: Mapping[str, Any], hide: Redaction) -> dict[str, Any]:
    """Of an attempt's error, the code too is a text of the application's."""
    return {name: hide.text(value) if name == "code" and value else value for name, value in error.items()}


def _timeline(row: Row, errors: list[dict[str, Any]], discarded: list[Row]) -> Iterator[TimelineEntry]:
    moments = [*_creation(row), *_attempts(row, errors), *_closing(row, discarded)]
    yield from sorted(moments, key=lambda moment: moment.at)


def _creation(row: Row) -> Iterator[TimelineEntry]:
    source = f" by schedule {row['schedule']}" if row["schedule"] else ""
    again = (
        ", to run an earlier one again"
        if row["replay_of"]
        else ", as the child of another run"
        if row["parent_id"]
        else ""
    )
    yield TimelineEntry(row["created_at"], "accepted", f"Sent{source}{again}.")


def _attempts(row: Row, errors: list[dict[str, Any]]) -> Iterator[TimelineEntry]:
    for position, error in enumerate(errors):
        is_last = position == len(errors) - 1
        kind = error.get("kind")
        if kind == "death":
            state, what = "pending", f"Its process died: {error.get('message')}"
        elif kind == "lost end":
            state, what = "pending", f"It is executed again: {error.get('message')}"
        else:
            state = "failed" if is_last and row["state"] == "failed" else "retrying"
            what = f"Attempt {error.get('attempt')} failed with {error.get('code')}: {error.get('message')}"
        yield TimelineEntry(datetime.fromisoformat(str(error["at"])), state, what)
    if row["state"] == "held":
        at = max(filter(None, (row["created_at"], row["handed_over_at"], row["started_at"])))
        yield TimelineEntry(at, "held", "Held: it waits for its turn, or its tenant is suspended or its queue paused.")
    elif row["handed_over_at"] is not None:
        again = f", for the {row['hand_overs']}. time" if row["hand_overs"] > 1 else ""
        yield TimelineEntry(row["handed_over_at"], "pending", f"Dispatched to queue {row['queue']}{again}.")
    if row["started_at"] is not None and row["state"] != "held":
        on = f", on {row['worker']}" if row["worker"] else ""
        yield TimelineEntry(row["started_at"], "running", f"Attempt {row['attempt'] - row['deaths'] or 1} began{on}.")
    if row["cancel_requested_at"] is not None:
        yield TimelineEntry(row["cancel_requested_at"], "cancelling", "Cancelled by request.")


def _closing(row: Row, discarded: list[Row]) -> Iterator[TimelineEntry]:
    if row["closed_at"] is not None:
        code = f" with {row['error_code']}" if row["error_code"] else ""
        yield TimelineEntry(row["closed_at"], row["state"], f"Closed as {row['state']}{code}.")
    elif row["state"] in {"scheduled", "retrying"}:
        yield TimelineEntry(row["run_at"], "pending", "Due.")
    for one in discarded:
        yield TimelineEntry(one["at"], "discarded", f"Discarded by {one['who']}.")
