"""Retry or discard a whole group of dead letters: batch by batch, at a pace, until done or stopped.

Each batch is one transaction: its runs, their marks and the audit's count commit together. So the audit is right even
if the process ends in the middle, and doing the same again continues where it stopped.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final, Literal

import structlog

from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.data.dead_letters import Group, count_group
from cgk_tasks.dashboard.roles import User
from cgk_tasks.errors import CgkTasksError, InvalidOptionError
from cgk_tasks.flow.accept import accept, unit_of_work
from cgk_tasks.flow.replay import replay_of
from cgk_tasks.runs.models import NewRun
from cgk_tasks.runs.sealing import opened
from cgk_tasks.sql.postgres import Connection, Row, execute, fetch, statements, transaction

SQL = statements("dashboard")
log = structlog.get_logger("cgk_tasks.dashboard")

Kind = Literal["retry", "discard"]

_KINDS: Final[Mapping[str, Kind]] = {"retry dead letters": "retry", "discard dead letters": "discard"}

DEFAULT_PACE: Final = 20
FASTEST_PACE: Final = 1000
"""Runs a second."""

_LARGEST_BATCH = 100


def begin_group_action(user: User, group: Group, kind: Kind, pace: int = DEFAULT_PACE) -> int:
    """Start it in a thread of this process. Returns its number in the audit, where it can be watched and stopped.

    pace: runs a second, 1 to 1000. Raises InvalidOptionError.
    """
    if not 1 <= pace <= FASTEST_PACE:
        raise InvalidOptionError("pace", f"must be 1 to {FASTEST_PACE} runs a second, not {pace}")
    return _begin(user, group, kind, pace)


def resume_action(user: User, action_id: int) -> int | None:
    """Do the rest of an action whose dashboard ended in the middle, as an action of its own. Returns its number.

    What has failed since the first one began is not taken up. None if there is nothing to resume: the action has ended,
    is under way, or somebody else has just resumed it.
    """
    lost = audit.take_over_lost(user, action_id)
    if lost is None or lost["action"] not in _KINDS:
        return None
    details = lost["details"]
    group = Group(lost["subject"], details["fingerprint"], lost["tenant_id"] or "")
    # Of one that was resumed already: from when the first one began.
    until = datetime.fromisoformat(details["until"]) if "until" in details else lost["at"]
    return _begin(user, group, _KINDS[lost["action"]], details["pace"], until=until, resumes=action_id)


def _begin(
    user: User, group: Group, kind: Kind, pace: int, *, until: datetime | None = None, resumes: int | None = None
) -> int:
    runs, _tenants = count_group(group, until)
    details: dict[str, object] = {"fingerprint": group.fingerprint, "pace": pace}
    if until is not None:
        details |= {"until": until.isoformat(), "resumes": resumes}
    entry = audit.begin(
        user,
        f"{kind} dead letters",
        subject=group.event,
        tenant_id=group.tenant_id or None,
        expected=runs,
        details=details,
    )
    which = group.values | {"until": until or entry.at}
    threading.Thread(target=_work, args=(entry, which, kind, pace), name=f"{kind} {group.event}", daemon=True).start()
    return entry.id


def _work(entry: audit.Entry, which: Row, kind: Kind, pace: int) -> None:
    refused = 0
    after: str | None = None
    batch = min(pace, _LARGEST_BATCH)
    try:
        while True:
            begun = time.monotonic()
            after, not_done, stop = _batch(entry, which, kind, after, batch)
            refused += not_done
            if after is None or stop:
                break
            time.sleep(max(0.0, batch / pace - (time.monotonic() - begun)))
        message = f"{refused} could not be run again" if refused else ""
        audit.end(entry, "aborted" if stop and after is not None else "done", message)
    except Exception as exc:
        log.exception("group_action_failed", action=entry.id)
        audit.end(entry, "failed", f"{type(exc).__name__}; what was done until then stays")


def _batch(entry: audit.Entry, which: Row, kind: Kind, after: str | None, size: int) -> tuple[str | None, int, bool]:
    """The next runs of the group. Returns the last one's id (None at the end), how many refused, and whether to
    stop.
    """
    values = which | {"after": after, "limit": size}
    with transaction() as connection, unit_of_work(connection) as unit:
        fetch(connection, SQL["lock_group"], values)
        rows = fetch(connection, SQL["next_of_group"], values)
        done = _retry(rows) if kind == "retry" else _discard(connection, entry, rows)
        before = entry.affected
        entry.affected += done
        try:
            stop = audit.progress(connection, entry)
        except BaseException:
            entry.affected = before
            raise
    unit.publish()
    return (rows[-1]["id"] if rows else None), len(rows) - done, stop


def _retry(rows: Sequence[Row]) -> int:
    """Runs that cannot be sent any more (their tenant is gone) stay dead letters."""
    again: list[NewRun] = []
    for row in rows:
        try:
            again.append(replay_of(opened(row)))
        except CgkTasksError as exc:
            log.warning("dead_letter_not_retried", run=row["id"], reason=str(exc))
    return len(accept(again))


def _discard(connection: Connection, entry: audit.Entry, rows: Sequence[Row]) -> int:
    values = {
        "ids": [row["id"] for row in rows], "closed_at": [row["closed_at"] for row in rows], "audit_id": entry.id,
    }  # fmt: skip
    return execute(connection, SQL["discard"], values) if rows else 0
