"""Runs that failed for good and that nobody has dealt with, grouped by event and by what the error looks like."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cgk_tasks.dashboard.data.queries import SQL, read_transaction
from cgk_tasks.dashboard.data.run_search import Key
from cgk_tasks.events.redaction import redaction_of, summary
from cgk_tasks.runs import bodies
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.sealing import opened_to_show
from cgk_tasks.sql.postgres import Row, fetch

MOST_GROUPS = 500
GROUPS_OF_EVENT = 20
PAGE_SIZE = 50
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Group:
    """Which dead letters: of one event with one kind of error, of one tenant or (`tenant_id` empty) of all."""

    event: str
    fingerprint: str
    tenant_id: str = ""

    @property
    def values(self) -> dict[str, Any]:
        return {"event": self.event, "fingerprint": self.fingerprint, "tenant_id": self.tenant_id or None}


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """A group with its size, and its newest error without personal data. has_more: of so many failed runs the last ones
    alone were counted. first_at, last_at: of those; None if all of them were dealt with.
    """

    group: Group
    runs: int
    tenants: int
    first_at: datetime | None
    last_at: datetime | None
    has_more: bool
    error_code: str
    type: str
    message: str


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One run of a group."""

    id: str
    tenant_id: str
    job: str | None
    error_code: str
    message: str
    summary: Mapping[str, Any]
    created_at: datetime
    closed_at: datetime


def dead_letter_groups(tenant_id: str = "") -> list[GroupCounts]:
    """The groups, that of the newest failure first. Raises QueryTimeoutError."""
    values = {"tenant_id": tenant_id or None, "limit": MOST_GROUPS, "most": MOST_COUNTED}
    return _groups("dead_letter_groups", values, tenant_id)


def groups_of_event(event: str) -> list[GroupCounts]:
    """The largest groups of an event, of 10,000 dead letters of it at most. Raises QueryTimeoutError."""
    return _groups("groups_of_event", {"event": event, "limit": GROUPS_OF_EVENT, "most": MOST_COUNTED})


def _groups(statement: str, values: Mapping[str, Any], tenant_id: str = "") -> list[GroupCounts]:
    with read_transaction() as connection:
        groups = fetch(connection, SQL[statement], values)
        rows = fetch(connection, SQL["dead_letter_examples"], {"ids": [group["example"] for group in groups]})
        bodies.brought(connection, rows)
    examples = {row["id"]: opened_to_show(row) for row in rows}
    return [_counts(group, examples[group["example"]], tenant_id) for group in groups if group["example"] in examples]


def _counts(row: Row, example: Row, tenant_id: str) -> GroupCounts:
    hide = redaction_of(example["event"], example["payload"])
    return GroupCounts(
        Group(row["event"], row["fingerprint"], tenant_id), row["runs"], row["tenants"], row["first_at"],
        row["last_at"], row["has_more"], hide.text(example["error_code"] or ""), _said(example, "type"),
        hide.text(_said(example, "message")),
    )  # fmt: skip


def _said(row: Row, name: str) -> str:
    """What the last error of a run says."""
    error = row["error"] or {}
    return str(error.get(name) or "")


def dead_letters(
    group: Group, before: Key | None = None, limit: int = PAGE_SIZE
) -> tuple[list[DeadLetter], Key | None]:
    """The runs of a group, the newest failure first, and the key of the next page."""
    values = group.values | {
        "before_at": before.sent_at if before else None, "before_id": before.run_id if before else None,
        "limit": limit + 1,
    }  # fmt: skip
    with read_transaction() as connection:
        rows = fetch(connection, SQL["dead_letters"], values)
        bodies.brought(connection, rows)
    letters = [_letter(opened_to_show(row)) for row in rows[:limit]]
    return letters, Key(letters[-1].closed_at, letters[-1].id) if len(rows) > limit else None


def _letter(row: Row) -> DeadLetter:
    hide = redaction_of(row["event"], row["payload"])
    return DeadLetter(
        row["id"], row["tenant_id"], row["job"], hide.text(row["error_code"] or ""), hide.text(_said(row, "message")),
        summary(row["event"], decode(row["payload"])),
        row["created_at"], row["closed_at"],
    )  # fmt: skip


def count_dead_letters(tenant_id: str = "") -> int:
    """How many there are, of one tenant or of all: MOST_COUNTED for so many or more."""
    with read_transaction() as connection:
        values = {"tenant_id": tenant_id or None, "most": MOST_COUNTED}
        return int(fetch(connection, SQL["count_dead_letters"], values)[0]["runs"])


def count_group(group: Group, until: datetime | None = None) -> tuple[int, int]:
    """How many runs of how many tenants an action on the group is about: its dry run."""
    with read_transaction() as connection:
        row = fetch(connection, SQL["count_group"], group.values | {"until": until})[0]
    return row["runs"], row["tenants"]
