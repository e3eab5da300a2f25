"""The steps of runs as people see them: what was done, what a run waits for, and since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.event_waits import EventKey
from cgk_tasks.runs.sealing import opened
from cgk_tasks.runs.steps import INTERNAL, StepKind, StepState
from cgk_tasks.sql.postgres import AnyConnection, Row, fetch, statements

if TYPE_CHECKING:
    from cgk_tasks.events.redaction import Redaction

SQL, TRANSITIONS = statements("steps"), statements("transitions")


class Some(NamedTuple):
    """Which steps to show of very many: so many of the first and the last, and of those between that are not done."""

    first: int
    last: int
    undone: int


EVERY: Final = Some(2**31 - 1, 0, 0)


@dataclass(frozen=True, slots=True)
class ShownStep:
    """number: its place among all steps of its run, from 1. attempts: how many have failed. awaits: what it waits for,
    for people; until: None for without an end. error: of the last attempt that failed.
    """

    number: int
    name: str
    nth: int
    kind: StepKind
    state: StepState
    attempts: int
    began_at: datetime
    ended_at: datetime | None
    awaits: tuple[str, ...]
    until: datetime | None
    result: Any
    error: Mapping[str, Any] | None

    @property
    def label(self) -> str:
        """Its name, with its number if there are several."""
        return self.name if self.nth == 1 else f"{self.name} ({self.nth})"


@dataclass(frozen=True, slots=True)
class Waiting:
    """A workflow that waits, and one of the steps for which it does."""

    id: str
    tenant_id: str
    event: str
    job: str | None
    step: str
    kind: StepKind
    awaits: tuple[str, ...]
    since: datetime
    until: datetime | None


def steps_of(connection: AnyConnection, run_id: str, hide: Redaction | None) -> list[ShownStep]:
    """The steps of a run in their order, without what `hide` hides. None of them while an upgrade is under way."""
    return some_steps_of(connection, run_id, hide, EVERY)[0]


def some_steps_of(
    connection: AnyConnection, run_id: str, hide: Redaction | None, some: Some
) -> tuple[list[ShownStep], int]:
    """The same of a run that may have very many steps: some of them, and how many there are."""
    if not fetch(connection, TRANSITIONS["has_steps"])[0]["yes"]:
        return [], 0
    values = {"id": run_id, "internal": sorted(INTERNAL), **some._asdict()}
    rows = fetch(connection, SQL["steps_to_show"], values)
    return [_shown(opened(row), hide) for row in rows], rows[0]["steps"] if rows else 0


def _shown(row: Mapping[str, Any], hide: Redaction | None) -> ShownStep:
    result, error = decode(row["step_result"]), decode(row["step_error"])
    if row["state"] == "waiting":
        result = None  # what it remembers for itself
    name, awaits = row["name"], _awaits(row["awaits"]) if row["state"] == "waiting" else ()
    if hide is not None:
        name, result, error = hide.text(name), hide.data(result), hide.errors([error])[0] if error else None
        awaits = tuple(map(hide.text, awaits))
    return ShownStep(
        row["number"], name, row["nth"], row["kind"], row["state"], row["attempts"], row["begun_at"], row["ended_at"],
        awaits, row["wake_at"], result, error,
    )  # fmt: skip


def waiting_workflows(
    connection: AnyConnection, *, tenant_id: str | None = None, job: str | None = None, limit: int = 50
) -> list[Waiting]:
    """Workflows that wait, the oldest runs first, with each step that they wait for."""
    values = {"tenant_id": tenant_id, "job": job, "limit": limit}
    return [_waiting(row) for row in fetch(connection, SQL["waiting_workflows"], values)]


def _waiting(row: Row) -> Waiting:
    return Waiting(
        row["id"], row["tenant_id"], row["event"], row["job"], row["name"], row["kind"], _awaits(row["awaits"]),
        row["since"], row["until"],
    )  # fmt: skip


def _awaits(names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of mail as people know them: of an event its name, of other mail its own."""
    events = ((EventKey.of_mail(name), name) for name in names or ())
    return tuple(f"event {key.event}" if key is not None else name for key, name in events)
