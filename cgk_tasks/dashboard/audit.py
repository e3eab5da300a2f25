"""The audit: who did what, when, to how many runs. Written before the action, so that none happens unrecorded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cgk_tasks.dashboard.roles import Role, User
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.sql.postgres import AnyConnection, autocommit, execute, fetch, statements
from cgk_tasks.tenancy.audit import Via, recorded_elsewhere

SQL = statements("dashboard")

Outcome = Literal["begun", "done", "refused", "failed", "aborted"]
PAGE_SIZE = 100
_OF_PROGRESS = frozenset({"position", "left", "planned"})


class TakenOverError(CgkTasksError):
    """A long action goes on in another process, which took this one for gone."""

    code = "ACTION_TAKEN_OVER"

    def __init__(self, action_id: int) -> None:
        super().__init__(f"Action {action_id} was resumed elsewhere.")


@dataclass
class Entry:
    """An action under way. `affected`: how many runs it has reached so far."""

    id: int
    at: datetime
    affected: int = 0
    message: str = ""
    hide: Callable[[str], str] = str
    """Takes personal data out of the text of an error."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the audit. is_lost: begun, but its process is gone; what it reached until then stays."""

    id: int
    at: datetime
    who: str
    role: Role | Literal[""]
    via: Via
    action: str
    subject: str
    tenant_id: str | None
    expected: int | None
    affected: int
    outcome: Outcome
    message: str
    details: Mapping[str, Any]
    seen_at: datetime
    abort_requested_at: datetime | None
    is_lost: bool

    @property
    def told(self) -> Mapping[str, Any]:
        """The details that tell a reader something: not how far it has come."""
        return {name: value for name, value in self.details.items() if name not in _OF_PROGRESS}


def begin(
    user: User,
    action: str,
    *,
    subject: str = "",
    tenant_id: str | None = None,
    expected: int | None = None,
    details: Mapping[str, Any] | None = None,
    via: Via = "dashboard",
) -> Entry:
    """Write that an action begins. Raises the driver's errors: what cannot be recorded must not happen."""
    values = {
        "who": user.name, "role": user.role if via == "dashboard" else "", "via": via, "action": action,
        "subject": subject, "tenant_id": tenant_id, "expected": expected, "details": json.dumps(details or {}),
    }  # fmt: skip
    with autocommit() as connection:
        row = fetch(connection, SQL["begin_action"], values)[0]
    return Entry(row["id"], row["at"])


def end(entry: Entry, outcome: Outcome, message: str = "") -> None:
    """Write how it ended."""
    values = {"id": entry.id, "outcome": outcome, "message": message[:2000], "affected": entry.affected}
    with autocommit() as connection:
        execute(connection, SQL["end_action"], values)


@contextmanager
def recorded(user: User, action: str, **about: Any) -> Iterator[Entry]:
    """An action in the audit from its beginning to its end. What it raises is its outcome, and goes on."""
    entry = begin(user, action, **about)
    try:
        with recorded_elsewhere():
            yield entry
    except CgkTasksError as exc:
        end(entry, "refused", entry.hide(str(exc)))
        raise
    except BaseException as exc:
        end(entry, "failed", type(exc).__name__)
        raise
    end(entry, "done", entry.message)


def progress(connection: AnyConnection, entry: Entry, affected: int, details: Mapping[str, Any]) -> bool:
    """Write how far a long action has come, in the transaction of what it did. Returns whether somebody wants it to
    stop. details: what takes the place of those of the same names.

    Raises TakenOverError if it has been resumed elsewhere: then the transaction must not commit.
    """
    values = {"id": entry.id, "affected": affected, "details": json.dumps(details)}
    rows = fetch(connection, SQL["progress"], values)
    if not rows:
        raise TakenOverError(entry.id)
    return bool(rows[0]["abort"])


def request_abort(action_id: int) -> bool:
    """Ask a long action to stop after the runs it is at, in whatever process it is. False if it has ended."""
    with autocommit() as connection:
        return bool(fetch(connection, SQL["request_abort"], {"id": action_id}))


def take_over_lost(user: User, action_id: int) -> bool:
    """Take over a long action whose process is gone. False if it is not so, or somebody else was first."""
    with autocommit() as connection:
        return bool(fetch(connection, SQL["take_lost_action"], {"id": action_id, "who": user.name}))


def lines(
    *, before: int | None = None, action_id: int | None = None, subject: str | None = None, limit: int = PAGE_SIZE
) -> list[Line]:
    """The audit, the newest line first."""
    values = {"before": before, "id": action_id, "subject": subject, "limit": limit}
    with autocommit() as connection:
        return [Line(**row) for row in fetch(connection, SQL["audit"], values)]
