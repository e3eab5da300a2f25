"""Retry or discard a whole group of dead letters, as a long action."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, Final, Literal

import structlog

from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.data.dead_letters import Group, count_group
from cgk_tasks.dashboard.long_actions import DEFAULT_PACE, Batch, LongAction, Work, begin, checked_pace
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import CgkTasksError
from cgk_tasks.flow.accept import accept
from cgk_tasks.flow.replay import lock_free, replay_of
from cgk_tasks.runs.models import NewRun
from cgk_tasks.runs.sealing import opened
from cgk_tasks.sql.postgres import Connection, Row, execute, fetch, statements

SQL = statements("dashboard")
log = structlog.get_logger("cgk_tasks.dashboard")

Kind = Literal["retry", "discard"]


def begin_group_action(user: User, group: Group, kind: Kind, pace: int = DEFAULT_PACE) -> int:
    """Start it in a thread of this process. Returns its number in the audit, where it can be watched and stopped.

    pace: runs a second, 1 to 1000. Raises InvalidOptionError.
    """
    return begin(user, _action(group, kind, checked_pace(pace)))


def _restored(kind: Kind) -> Callable[[audit.Line], LongAction]:
    """Makes the rest of an action. What has failed since the first one began is not taken up."""

    def restore(lost: audit.Line) -> LongAction:
        details = lost.details
        group = Group(lost.subject, details["fingerprint"], lost.tenant_id or "")
        # Of one that was resumed already: from when the first one began.
        until = datetime.fromisoformat(details["until"]) if "until" in details else lost.at
        kept = {name: details[name] for name in ("position",) if name in details}
        return _action(group, kind, details["pace"], until, {**kept, "resumes": lost.id})

    return restore


RESTORE: Final[Mapping[str, Callable[[audit.Line], LongAction]]] = {
    "retry dead letters": _restored("retry"),
    "discard dead letters": _restored("discard"),
}


def _action(
    group: Group, kind: Kind, pace: int, until: datetime | None = None, more: Mapping[str, Any] | None = None
) -> LongAction:
    runs, _tenants = count_group(group, until)
    details: dict[str, Any] = {"fingerprint": group.fingerprint, **(more or {})}
    if until is not None:
        details["until"] = until.isoformat()

    def work(entry: audit.Entry) -> Work:
        return partial(_batch, kind, group.values | {"until": until or entry.at})

    return LongAction(f"{kind} dead letters", group.event, group.tenant_id or None, runs, pace, details, work)


def _batch(
    kind: Kind, which: Row, connection: Connection, entry: audit.Entry, position: str | None, size: int
) -> Batch:
    values = which | {"after": position, "limit": size}
    fetch(connection, SQL["lock_group"], values)
    rows = fetch(connection, SQL["next_of_group"], values)
    if not rows:
        return Batch(None, 0)
    done = _retry(connection, rows) if kind == "retry" else _discard(connection, entry, rows)
    return Batch(rows[-1]["id"], done, {"refused": len(rows) - done} if kind == "retry" else {})


def _retry(connection: Connection, rows: Sequence[Row]) -> int:
    """Runs that cannot be sent any more (their tenant is gone) stay dead letters, as do those that somebody is running
    again at this moment.
    """
    free = lock_free(connection, [row["id"] for row in rows])
    dead = {row["id"] for row in fetch(connection, SQL["still_dead_letters"], {"ids": sorted(free)})}
    return len(accept(runs_again([row for row in rows if row["id"] in dead])))


def runs_again(rows: Sequence[Row]) -> list[NewRun]:
    """The new runs of closed ones, without those that cannot be sent any more."""
    again: list[NewRun] = []
    for row in rows:
        try:
            again.append(replay_of(opened(row)))
        except CgkTasksError as exc:
            log.warning("run_not_run_again", run=row["id"], reason=str(exc))
    return again


def _discard(connection: Connection, entry: audit.Entry, rows: Sequence[Row]) -> int:
    values = {
        "ids": [row["id"] for row in rows], "closed_at": [row["closed_at"] for row in rows], "audit_id": entry.id,
    }  # fmt: skip
    return execute(connection, SQL["discard"], values)
