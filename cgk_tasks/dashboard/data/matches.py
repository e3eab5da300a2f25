"""What an action on all matches of a search would do, and the matches themselves, batch by batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

from cgk_tasks.dashboard.data.queries import read_transaction
from cgk_tasks.dashboard.data.run_search import (
    LOOKED_AT,
    Key,
    ListedRun,
    RunFilter,
    find_runs,
    question,
    search_rows,
    still_matching,
)
from cgk_tasks.runs.models import CLOSED_STATES, OPEN_STATES, State
from cgk_tasks.sql.postgres import Connection, Row, fetch, statements

SQL, SEARCHES = statements("matches"), statements("dashboard")

Kind = Literal["retry", "cancel", "replay"]

STATES: Final[Mapping[Kind, frozenset[State]]] = {
    "retry": CLOSED_STATES - {"completed"}, "cancel": OPEN_STATES, "replay": CLOSED_STATES,
}  # fmt: skip
"""The states of runs that each action is for."""

MOST_PLANNED: Final = 10_000
"""So many matches a plan counts, unless all of them are asked for."""
SAMPLE_SIZE: Final = 20
_MOST_OF_ALL: Final = 10_000_000
_MOST_LISTED: Final = 10
_BEGINNING: Final = datetime(2004, 11, 4, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Plan:
    """What an action would do, as far as was looked. acting: with so many runs, by state, tenant and event, the most
    first. left: how many it would leave alone, by why. tenants, events: how many of them there are. is_partial: there
    may be more. looked_until: earlier runs were not looked at.

    sample: some of the newest, each with why it would be left alone, or ''.
    """

    acting: int
    states: Mapping[str, int]
    by_tenant: Mapping[str, int]
    by_event: Mapping[str, int]
    tenants: int
    events: int
    left: Mapping[str, int]
    is_partial: bool
    looked_until: datetime | None
    sample: Sequence[tuple[ListedRun, str]]


def plan(kind: Kind, wanted: RunFilter, now: datetime, *, of_all: bool = False) -> Plan:
    """The dry run of an action on what matches. of_all: whether all matches are counted, which may take long.

    Raises QueryTimeoutError.
    """
    limit, look_at = (_MOST_OF_ALL, None) if of_all else (MOST_PLANNED, LOOKED_AT)
    candidates = wanted.among(STATES[kind])
    with read_transaction() as connection:
        statement, values, since = question(connection, SQL[f"plan_of_{kind}"], candidates, limit, look_at=look_at)
        rows = fetch(connection, statement, values)
        others = wanted.among((OPEN_STATES | CLOSED_STATES) - STATES[kind])
        statement, values, _since = question(connection, SEARCHES["states_of_runs"], others, limit, look_at=look_at)
        left = Counter[str]()
        for row in fetch(connection, statement, values):
            left[_why_not(kind, row["state"])] += row["runs"]
    found = find_runs(candidates, limit=SAMPLE_SIZE, look_at=LOOKED_AT).runs
    with read_transaction() as connection:
        verdicts = _verdicts_of_sample(connection, kind, wanted, found, now)
    seen = sum(row["runs"] for row in rows)
    return _summed(rows, left, seen >= limit or since is not None, since, [(run, verdicts[run.id]) for run in found])


def _summed(
    rows: Sequence[Row],
    left: Counter[str],
    is_partial: bool,
    since: datetime | None,
    sample: Sequence[tuple[ListedRun, str]],
) -> Plan:
    acting = [row for row in rows if not row["verdict"]]
    left += _by([row for row in rows if row["verdict"]], "verdict")
    states, tenants, events = (_by(acting, name) for name in ("state", "tenant_id", "event"))
    return Plan(
        sum(states.values()), dict(states.most_common()), dict(tenants.most_common(_MOST_LISTED)),
        dict(events.most_common(_MOST_LISTED)), len(tenants), len(events), left, is_partial, since, sample,
    )  # fmt: skip


def _why_not(kind: Kind, state: State) -> str:
    """Why a run in a state that the action is not for is left alone."""
    if state in OPEN_STATES:
        return "open"
    return "closed" if kind == "cancel" else state


def _by(rows: Sequence[Row], column: str) -> Counter[str]:
    counted: Counter[str] = Counter()
    for row in rows:
        counted[row[column]] += row["runs"]
    return counted


def _verdicts_of_sample(
    connection: Connection, kind: Kind, wanted: RunFilter, found: Sequence[ListedRun], now: datetime
) -> dict[str, str]:
    matches = [Match(run.id, run.closed_at, run.parent_id) for run in found]
    if kind == "cancel":
        rows = open_rows(connection, [one.id for one in matches], now)
    else:
        rows = closed_rows(connection, kind, wanted, matches, now)
    verdicts = {row["id"]: row["verdict"] for row in rows}
    return {run.id: verdicts.get(run.id, "changed") for run in found}


class Match(NamedTuple):
    """A run that matches, as it is found. closed_at: None if it is open."""

    id: str
    closed_at: datetime | None
    parent_id: str | None


def next_matches(
    connection: Connection, wanted: RunFilter, before: Key | None, limit: int
) -> tuple[list[Match], Key | None]:
    """The next runs that match, the last sent first, and where to go on: None at the end. Maybe none of a stretch."""
    rows, following, _since = search_rows(connection, wanted, before, limit, look_at=LOOKED_AT)
    last = {row["id"]: row for row in sorted(rows, key=lambda row: row["closed_at"] or _BEGINNING)}
    return [Match(row["id"], row["closed_at"], row["parent_id"]) for row in last.values()], following


def closed_rows(
    connection: Connection,
    kind: Kind,
    wanted: RunFilter,
    matches: Sequence[Match],
    until: datetime,
    planned: datetime | None = None,
) -> list[Row]:
    """Closed runs with what it takes to run them again, and with the verdict on each. until: what was sent or closed
    later is left alone. planned: when the action's plan was made; what was run again since is not replayed.
    """
    values: dict[str, Any] = {
        "ids": [one.id for one in matches], "closed_at": [one.closed_at for one in matches], "until": until,
        "since": _BEGINNING,
    }  # fmt: skip
    if kind == "replay":
        parents = {one.parent_id for one in matches if one.parent_id}
        values |= {
            "since": planned or until,
            "matching_parents": sorted(still_matching(connection, wanted.among(STATES[kind]), parents)),
        }
    return fetch(connection, SQL[f"closed_to_{kind}"], values)


def open_rows(connection: Connection, ids: Sequence[str], until: datetime) -> list[Row]:
    """Those of some runs that are open, with the verdict on each."""
    return fetch(connection, SQL["open_to_cancel"], {"ids": list(ids), "until": until})
