"""Retry, cancel or replay all runs that match a search, as a long action.

What matches is fixed when it begins: the search with its times, of what was sent and closed until then. The newest run
comes first. Before each batch is acted on, its runs are locked and looked at again, so that none is taken that has
changed meanwhile, or that somebody else is running again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from psycopg import errors as pg_errors

from cgk_tasks.celery_tasks import canvas
from cgk_tasks.dashboard import audit
from cgk_tasks.dashboard.data import matches
from cgk_tasks.dashboard.data.matches import STATES, Kind, Match, Plan
from cgk_tasks.dashboard.data.run_search import Key, RunFilter, still_matching
from cgk_tasks.dashboard.group_actions import runs_again
from cgk_tasks.dashboard.long_actions import DEFAULT_PACE, Batch, LongAction, Work, begin, checked_pace
from cgk_tasks.dashboard.roles import User
from cgk_tasks.dashboard.run_query import TERMS, fix_times, run_filter
from cgk_tasks.dashboard.search_syntax import parse
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.flow.accept import accept
from cgk_tasks.flow.replay import lock_free
from cgk_tasks.runs import store
from cgk_tasks.sql.locks import wait_as_ever, wait_briefly
from cgk_tasks.sql.postgres import Connection, fetch, statements

TRANSITIONS = statements("transitions")

EVERY_RUN: Final = "every run"
"""What has to be typed to act on a search without any term."""

_OLDEST_PLAN: Final = timedelta(hours=12)
_CLOCKS_DIFFER: Final = timedelta(minutes=1)


def needs_confirmation(search: str) -> bool:
    """Whether the search has no term, so that it matches every run of every tenant. Raises SearchError."""
    return not parse(search, TERMS)


def plan_of(kind: Kind, search: str, *, of_all: bool = False) -> tuple[Plan, datetime]:
    """What the action would do now, and when that is. Nothing is done. Raises SearchError, QueryTimeoutError."""
    now = store.database_time()
    return matches.plan(kind, run_filter(search, now), now, of_all=of_all), now


def begin_match_action(
    user: User, kind: Kind, search: str, pace: int = DEFAULT_PACE, *, planned: datetime | None = None, typed: str = ""
) -> int:
    """Start it in a thread of this process. Returns its number in the audit, where it can be watched and stopped.

    pace: runs a second, 1 to 1000. planned: when the user saw what it would do; what was run again since then is not
    replayed, so that to start a replay twice does it once. typed: EVERY_RUN, for a search without any term.

    Raises SearchError, InvalidOptionError, QueryTimeoutError.
    """
    return begin(user, new_action(kind, search, pace, planned=planned, typed=typed))


def new_action(kind: Kind, search: str, pace: int, *, planned: datetime | None = None, typed: str = "") -> LongAction:
    """The action from now on. Raises as `begin_match_action` does."""
    checked_pace(pace)
    if needs_confirmation(search) and typed.strip().lower() != EVERY_RUN:
        raise InvalidOptionError(
            "confirm", "the search has no term, so that it matches every run of every tenant",
            hint=f"Type {EVERY_RUN!r} if that is what you mean, or narrow it down.",
        )  # fmt: skip
    found, now = plan_of(kind, search)
    details: dict[str, Any] = {"search": fix_times(search, now), "until": now.isoformat()}
    if found.is_partial:
        details["at_least"] = True
    if kind == "replay":
        since = planned if planned is not None and now - _OLDEST_PLAN <= planned <= now else now
        details["planned"] = since.isoformat()
    return _action(kind, search.strip(), _tenant(search, now), found.acting, pace, details)


def _tenant(search: str, now: datetime) -> str | None:
    return run_filter(search, now).tenant_id or None


def _restored(kind: Kind) -> Callable[[audit.Line], LongAction]:
    """Makes the rest of an action: what matched when the first one began, behind the last batch of it."""

    def restore(lost: audit.Line) -> LongAction:
        kept = {name: value for name, value in lost.details.items() if name not in {"pace", "left", "resumes"}}
        rest = max(0, (lost.expected or 0) - lost.affected)
        details = {**kept, "resumes": lost.id}
        return _action(kind, lost.subject, lost.tenant_id, rest, lost.details["pace"], details)

    return restore


RESTORE: Final[Mapping[str, Callable[[audit.Line], LongAction]]] = {
    "retry matches": _restored("retry"),
    "cancel matches": _restored("cancel"),
    "replay matches": _restored("replay"),
}


def _action(
    kind: Kind, subject: str, tenant_id: str | None, expected: int, pace: int, details: Mapping[str, Any]
) -> LongAction:
    until = datetime.fromisoformat(details["until"])
    wanted = run_filter(details["search"], until).among(STATES[kind])
    # Ids are made by the clocks of the senders. What was sent later is told by PostgreSQL's, one by one.
    latest = until + _CLOCKS_DIFFER
    wanted = replace(wanted, until=min(wanted.until or latest, latest))
    if kind != "cancel":
        wanted = replace(wanted, closed_until=min(wanted.closed_until or until, until))
    planned = datetime.fromisoformat(details["planned"]) if "planned" in details else None
    batch = partial(_cancel, wanted, until) if kind == "cancel" else partial(_run_again, kind, wanted, until, planned)

    def work(_entry: audit.Entry) -> Work:
        return partial(_batch, wanted, batch)

    return LongAction(f"{kind} matches", subject, tenant_id, expected, pace, details, work)


_Acts = Callable[[Connection, Sequence[Match]], tuple[int, Mapping[str, int]]]


def _batch(
    wanted: RunFilter, act: _Acts, connection: Connection, _entry: audit.Entry, position: str | None, size: int
) -> Batch:
    before = Key.parse(position) if position else None
    found, following = matches.next_matches(connection, wanted, before, size)
    done, left = _done(act, connection, found) if found else (0, {})
    wait_as_ever(connection)
    return Batch(str(following) if following else None, done, left)


def _done(act: _Acts, connection: Connection, found: Sequence[Match]) -> tuple[int, Mapping[str, int]]:
    """One run that somebody's open transaction has locked must not keep the others locked as well: it is left alone."""
    wait_briefly(connection)
    try:
        with connection.transaction():
            return act(connection, found)
    except pg_errors.LockNotAvailable:
        wait_briefly(connection, are_many=True)
    done, left = 0, Counter[str]()
    for one in found:
        try:
            with connection.transaction():
                its, why = act(connection, [one])
        except pg_errors.LockNotAvailable:
            left["locked"] += 1
        else:
            done += its
            left.update(why)
    return done, left


def _run_again(
    kind: Kind,
    wanted: RunFilter,
    until: datetime,
    planned: datetime | None,
    connection: Connection,
    found: Sequence[Match],
) -> tuple[int, Mapping[str, int]]:
    free = lock_free(connection, [one.id for one in found])
    left = Counter({"again": len(found) - len(free)})
    locked = [one for one in found if one.id in free]
    rows = matches.closed_rows(connection, kind, wanted, locked, until, planned)
    left["changed"] = len(locked) - len(rows)
    left.update(row["verdict"] for row in rows if row["verdict"])
    chosen = [row for row in rows if not row["verdict"]]
    again = accept(runs_again(chosen))
    left["refused"] = len(chosen) - len(again)
    return len(again), +left


def _cancel(
    wanted: RunFilter, until: datetime, connection: Connection, found: Sequence[Match]
) -> tuple[int, Mapping[str, int]]:
    ids = [one.id for one in found]
    fetch(connection, TRANSITIONS["lock_to_cancel"], {"ids": ids})
    matching = still_matching(connection, wanted, ids)
    rows = [row for row in matches.open_rows(connection, ids, until) if row["id"] in matching]
    left = Counter(row["verdict"] for row in rows if row["verdict"])
    left["changed"] = len(ids) - len(rows)
    chosen = [row["id"] for row in rows if not row["verdict"]]
    if chosen:
        import cgk_tasks  # the app, for what follows a cancelled run in Celery's canvas

        canvas.follow_closed(store.cancel_with_children(connection, chosen), cgk_tasks.app)
    return len(chosen), +left
