"""What pages show that are open now, in short: by its mark the dashboard notices that a page is to be shown anew.

A browser brings the mark of the page that it has, and hears only that something has changed; then it asks for the page.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from cgk_tasks.config import get_settings
from cgk_tasks.dashboard.data.queries import QueryTimeoutError
from cgk_tasks.dashboard.data.run_search import LOOKED_AT, ListedRun, RunFilter, find_runs
from cgk_tasks.dashboard.run_query import run_filter
from cgk_tasks.dashboard.search_syntax import SearchError
from cgk_tasks.sql.postgres import Connection, Row, autocommit, fetch, fetch_or_before, statements, uuid_array

SQL = statements("live")

Kind = Literal["run", "runs", "queue", "overview", "action", "workers"]


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds. least: between two times that a page is told. stale: after that it is told though nothing has changed:
    it says how long ago things were, and of what waits, why it does.
    """

    least: float
    stale: float


PACES: Final[dict[Kind, Pace]] = {
    "run": Pace(1.0, 10.0),
    "runs": Pace(2.0, 15.0),
    "queue": Pace(4.0, 10.0),
    "overview": Pace(10.0, 30.0),
    "action": Pace(1.0, 15.0),
    "workers": Pace(5.0, 15.0),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """What a page shows. of: the id of a run, a search, the name of a queue, the number of an action, or nothing."""

    kind: Kind
    of: str = ""

    @property
    def pace(self) -> Pace:
        return PACES[self.kind]


def marks(topics: Collection[Topic]) -> dict[Topic, str]:
    """The mark of each; without those that are not there, and of searches that took too long. Raises psycopg.Error."""
    found: dict[Topic, str] = {}
    with autocommit() as connection:
        if runs := _named(topics, "run"):
            rows = fetch_or_before(connection, SQL["runs"], SQL["runs_before_workflows"], {"ids": uuid_array(runs)})
            found |= {Topic("run", row["id"]): _mark(row) for row in rows}
        if queues := _named(topics, "queue"):
            rows = fetch_or_before(connection, SQL["queues"], SQL["queues_before_lanes"], {"queues": queues})
            found |= {Topic("queue", row["queue"]): _mark(row) for row in rows}
        if actions := _named(topics, "action"):
            rows = fetch(connection, SQL["actions"], {"ids": [int(number) for number in actions]})
            found |= {Topic("action", row["id"]): _mark(row) for row in rows}
        if Topic("workers") in topics:
            values = {"timeout": get_settings().worker_timeout_seconds}
            found[Topic("workers")] = _mark(fetch(connection, SQL["workers"], values)[0])
        if Topic("overview") in topics:
            found[Topic("overview")] = _overview(connection)
    for text in _named(topics, "runs"):
        if (mark := _list(text)) is not None:
            found[Topic("runs", text)] = mark
    return found


def mark_of(topic: Topic) -> str:
    """The mark of one, for its page, which says what it shows; '' where there is nothing. Raises psycopg.Error."""
    return marks({topic}).get(topic, "")


def mark_of_list(runs: Iterable[ListedRun]) -> str:
    """That of a list of runs, of its first page."""
    return _digest(repr([(run.id, run.state, run.attempt, run.run_at, run.error_code) for run in runs]))


def _named(topics: Iterable[Topic], kind: Kind) -> list[str]:
    return [topic.of for topic in topics if topic.kind == kind]


def _mark(row: Row) -> str:
    return _digest(repr(tuple(row.values())))


def _digest(text: str) -> str:
    """Short, since a page's address has it; nobody reads anything in it."""
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _overview(connection: Connection) -> str:
    values = {"timeout": get_settings().worker_timeout_seconds}
    return _mark(fetch_or_before(connection, SQL["overview"], SQL["overview_before_counts"], values)[0])


def _list(text: str) -> str | None:
    """Of the first page of a search, as the page itself finds it."""
    try:
        return mark_of_list(find_runs(_filter(text), None, look_at=LOOKED_AT).runs)
    except QueryTimeoutError:
        return None


def _filter(text: str) -> RunFilter:
    return run_filter(text, datetime.now(UTC))


def can_be_read(text: str) -> bool:
    """Whether it is a search."""
    try:
        _filter(text)
    except SearchError:
        return False
    return True
