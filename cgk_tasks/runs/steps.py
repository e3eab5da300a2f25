"""The steps of runs on record: what a run remembers, and what it waits for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, Protocol

from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.runs.ends import columns
from cgk_tasks.runs.models import NewRun
from cgk_tasks.runs.sealing import open_sealed, seal
from cgk_tasks.sql.postgres import AnyConnection, execute, fetch, fetch_as, statements

if TYPE_CHECKING:
    from cgk_tasks.tenancy.database import TenantSession

SQL, TRANSITIONS = statements("steps"), statements("transitions")

StepKind = Literal[
    "begin", "step", "effect", "sleep", "signal", "event", "any", "invoke", "gather",
    "compensate", "compensates", "undo",
]  # fmt: skip
INTERNAL: Final[frozenset[StepKind]] = frozenset({"begin", "compensates", "undo"})
"""Kinds of steps that no function asks for."""

StepState = Literal["begun", "waiting", "intent", "done", "failed", "timed_out"]

Wakes = Literal["any", "all", "first_failure"]
"""What ends a wait for mail: any of it, or all, or the first that tells of a failure, else all."""

OVER: Final[frozenset[StepState]] = frozenset({"done", "failed", "timed_out"})


class Memo(NamedTuple):
    """A step as the record has it, or is to have it. result and error are JSON text.

    nth: how many calls with the name there were, this one included. place: in the order of all steps. attempts: how
    many have failed. awaits: names of mail. until: when a wait is over; delay_seconds: the same, counted from the
    moment at which it is written. is_due: as it was when it was read. seconds: how long the step took. wakes: by
    what of the mail its wait ends.
    """

    name: str
    nth: int
    place: int
    kind: StepKind
    state: StepState
    result: str | None = None
    error: str | None = None
    attempts: int = 0
    awaits: tuple[str, ...] = ()
    until: datetime | None = None
    delay_seconds: float | None = None
    begun_at: datetime | None = None
    is_due: bool = False
    seconds: float = 0.0
    wakes: Wakes = "any"

    @property
    def is_over(self) -> bool:
        return self.state in OVER


@dataclass(frozen=True, slots=True)
class StepFailure:
    """Why a leg ended at a step that is tried again. error is JSON text; None where the step only asked for later."""

    delay_seconds: float
    exception: BaseException | None = None
    error: str | None = None
    error_code: str | None = None


@dataclass(frozen=True, slots=True)
class Suspension:
    """What a leg that has ended leaves on record. deferral: what the run waits for, as JSON text for people. children:
    runs that are made with it, all or nothing.
    """

    memos: tuple[Memo, ...]
    failure: StepFailure | None = None
    deferral: str | None = None
    children: tuple[NewRun, ...] = ()


class StepRecord(Protocol):
    """Where the steps of one run are kept: in PostgreSQL by workers, in memory by the local provider."""

    at_failure: Memo | None
    """Written with a failure outside of any step, so that failures can be counted."""

    compensates: bool
    """Whether the run has something to undo, as far as was seen."""

    is_undone: bool
    """Whether it is doing that."""

    def load(self) -> Sequence[Memo]:
        """The run's steps, in their order."""

    def keep(self, memo: Memo, before: Sequence[Memo] = (), session: TenantSession | None = None) -> Memo:
        """Keep a step that is over; with those `before` it, and with what was written in `session`, all or nothing.

        Returns the step as it is on record, which another attempt may have brought to its end before.
        Raises StaleAttemptError.
        """

    def take(self, make: Callable[[str], Memo], mail: str, before: Sequence[Memo] = ()) -> Memo | None:
        """Take the oldest mail of this name, and keep the step that `make` makes of its payload, all or nothing.

        None if there is no mail. Raises StaleAttemptError.
        """

    def gather(
        self, make: Callable[[Mapping[str, str]], Memo | None], children: Sequence[str], before: Sequence[Memo] = ()
    ) -> Memo | None:
        """Keep the step that `make` makes of the ends of these child runs that have come, by their ids, all or nothing.

        If it makes one, the children that have not ended are cancelled; None if it does not. Raises StaleAttemptError.
        """


class Fence(NamedTuple):
    """Which attempt writes, and how its run's content is sealed."""

    id: str
    attempt: int
    worker_id: str
    tenant_id: str
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Wait:
    """A run that waits, for `suspend`."""

    memos: Sequence[Memo]
    job: str
    deferral: str | None = None


def load(connection: AnyConnection, run: Fence) -> list[Memo]:
    return [_memo(run, row) for row in fetch_as(connection, SQL["load_steps"], {"id": run.id}, _plain)]


def find_over(connection: AnyConnection, run: Fence, name: str, nth: int) -> Memo | None:
    """A step that is over; None if there is none, or the attempt no longer owns the run."""
    rows = fetch_as(connection, SQL["find_step"], {**run._asdict(), "name": name, "nth": nth}, _plain)
    return _memo(run, rows[0]) if rows else None


def keep(connection: AnyConnection, run: Fence, memos: Sequence[Memo]) -> set[tuple[str, int]]:
    """Write steps. Returns name and number of those that were written: not of those that are over already, and of none
    if the attempt no longer owns the run.
    """
    if len(memos) == 1:
        kept = fetch(connection, SQL["keep_step"], {**run._asdict(), **_one(run, memos[0])})
    else:
        kept = fetch(connection, SQL["keep_steps"], {**run._asdict(), **_many(run, memos)})
    return {(row["name"], row["nth"]) for row in kept}


def suspend(connection: AnyConnection, run: Fence, wait: Wait) -> bool:
    """Running → scheduled, until the first of its waits is over. False if the attempt may not.

    In a transaction, which is rolled back then.
    """
    waiting = [memo for memo in wait.memos if memo.state == "waiting"]
    if not keep(connection, run, wait.memos).issuperset((memo.name, memo.nth) for memo in waiting):
        return False
    values = {
        "id": run.id, "attempt": run.attempt, "worker_id": run.worker_id, "job": wait.job,
        "until": [memo.until for memo in waiting], "delay_seconds": [memo.delay_seconds for memo in waiting],
        "sealed_deferral": seal(run.tenant_id, "deferral", wait.deferral, run.key_id),
    }  # fmt: skip
    return bool(fetch(connection, TRANSITIONS["suspend"], values))


def copy_before(connection: AnyConnection, run_id: str, step: str, to_id: str) -> None:
    """Give a run the steps that another one did before this one. Raises InvalidOptionError where it did not do it."""
    values = {"id": run_id, "to_id": to_id, "name": step, "internal": sorted(INTERNAL)}
    found = fetch(connection, SQL["first_of_name"], values)
    if not found:
        names = ", ".join(row["name"] for row in fetch(connection, SQL["names_of_steps"], values))
        raise InvalidOptionError(
            "from_step", f"{step!r} is no step that run {run_id} has done.", hint=f"It has {names or 'none'}"
        )
    undoes = found[0]["kind"] == "compensate"
    execute(connection, SQL["copy_steps"], {**values, "place": found[0]["place"], "undoes": undoes})


def _plain(_columns: Sequence[str]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """Rows as they are: their columns are in the order of `_memo`."""
    return lambda row: row


def _memo(run: Fence, row: tuple[Any, ...]) -> Memo:
    name, nth, place, kind, state, key_id, result, error, attempts, begun_at, wake_at, is_due = row
    tenant_id = run.tenant_id
    return Memo(
        name, nth, place, kind, state, open_sealed(tenant_id, "step_result", result, key_id),
        open_sealed(tenant_id, "step_error", error, key_id), attempts, (), wake_at, None, begun_at, is_due,
    )  # fmt: skip


_COLUMNS: Final[Mapping[str, Callable[[Fence, Memo], Any]]] = {
    "name": lambda _, memo: memo.name,
    "nth": lambda _, memo: memo.nth,
    "place": lambda _, memo: memo.place,
    "kind": lambda _, memo: memo.kind,
    "state": lambda _, memo: memo.state,
    "sealed_result": lambda run, memo: seal(run.tenant_id, "step_result", memo.result, run.key_id),
    "sealed_error": lambda run, memo: seal(run.tenant_id, "step_error", memo.error, run.key_id),
    "attempts": lambda _, memo: memo.attempts,
    "awaits": lambda _, memo: "\n".join(memo.awaits),
    "until": lambda _, memo: memo.until,
    "delay_seconds": lambda _, memo: memo.delay_seconds,
    "seconds": lambda _, memo: memo.seconds,
}


def _one(run: Fence, memo: Memo) -> dict[str, Any]:
    return {name: value(run, memo) for name, value in _COLUMNS.items()}


def _many(run: Fence, memos: Sequence[Memo]) -> dict[str, list[Any]]:
    return columns(tuple(_COLUMNS), (tuple(value(run, memo) for value in _COLUMNS.values()) for memo in memos))
