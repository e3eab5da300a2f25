"""Child runs and replays of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cgk_tasks.events.redaction import redaction_of
from cgk_tasks.runs.models import State
from cgk_tasks.sql.postgres import Row


@dataclass(frozen=True, slots=True)
class Relative:
    """A child run, or a replay."""

    id: str
    event: str
    job: str | None
    state: State
    created_at: datetime
    started_at: datetime | None
    closed_at: datetime | None
    error_code: str | None
    relation: str


def relative_of(row: Row, *, show_sensitive: bool) -> Relative:
    """An opened row of the statement `relatives`."""
    payload = row.pop("payload")
    del row["tenant_id"], row["key_id"]
    if row["error_code"] and not show_sensitive:
        row["error_code"] = redaction_of(row["event"], payload).text(row["error_code"])
    return Relative(**row)
