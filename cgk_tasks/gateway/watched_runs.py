"""Runs as those are told of them who watch: what a look finds in PostgreSQL, and the text that is sent of it.

That is the state, and what the job tells of itself, without personal data. Never a payload, a result or an error.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from cgk_tasks.events.base import sensitive_fields
from cgk_tasks.events.redaction import Redaction, redaction_of
from cgk_tasks.events.registry import find_event
from cgk_tasks.gateway.json_text import to_text
from cgk_tasks.runs import bodies
from cgk_tasks.runs.models import CLOSED_STATES, State, first_run_id
from cgk_tasks.runs.progress import NOTHING, Told, told_in
from cgk_tasks.runs.sealing import opened_to_show
from cgk_tasks.sql.clock import database_now
from cgk_tasks.sql.postgres import Connection, autocommit, fetch, fetch_as, statements, uuid_array

SQL = statements("streams")

Mark = tuple[State, int, datetime | None]
"""What a run is told by: its state, its attempt, and when it last told something of itself."""

MOST_NEW: Final = 1_000
"""So many runs that were sent within one look are told. The others are told when they start."""
MOST_ENDED: Final = 2_000
"""So many ends of a tenant within one look are told. Where there are more, it is told to list its runs anew."""

_AHEAD: Final = timedelta(minutes=1)
_MOST_REMEMBERED: Final = 2_000


class SeenRun(NamedTuple):
    """A run as a look found it."""

    id: str
    tenant_id: str
    event: str
    queue: str
    state: State
    attempt: int
    told_at: datetime | None
    closed_at: datetime | None

    @property
    def mark(self) -> Mark:
        return self.state, self.attempt, self.told_at

    @property
    def is_closed(self) -> bool:
        return self.state in CLOSED_STATES


def runs_by_id(ids: Iterable[str]) -> list[SeenRun]:
    """These runs, those that there are. Raises psycopg.Error."""
    wanted = uuid_array(ids)
    if wanted == "{}":
        return []
    with autocommit() as connection:
        return _seen(connection, "runs_by_id", {"ids": wanted})


class Recent(NamedTuple):
    """What is on or has changed. overrun: tenants of which more has ended than there is here."""

    runs: list[SeenRun]
    overrun: frozenset[str]


def runs_of_tenants(tenants: Sequence[str], since: datetime) -> Recent:
    """What is on, what was sent and what has ended since then, of these tenants. Raises psycopg.Error."""
    values = {
        "tenants": list(tenants), "since": since, "first_id": first_run_id(since),
        "last_id": first_run_id(database_now() + _AHEAD), "most_new": MOST_NEW, "most_ended": MOST_ENDED,
    }  # fmt: skip
    with autocommit() as connection:
        runs = _seen(connection, "runs_of_tenants", values)
    ended = Counter(run.tenant_id for run in runs if run.closed_at is not None)
    return Recent(runs, frozenset(tenant for tenant, count in ended.items() if count >= MOST_ENDED))


def _seen(connection: Connection, name: str, values: dict[str, Any]) -> list[SeenRun]:
    return fetch_as(connection, SQL[name], values, _reading)


def _reading(_columns: Sequence[str]) -> Callable[[tuple[Any, ...]], SeenRun]:
    return SeenRun._make


class Describer:
    """Makes the texts that are sent. It remembers what is personal data of a run, for as long as the run is open."""

    def __init__(self) -> None:
        self._redactions: dict[str, Redaction] = {}

    def texts(self, runs: Sequence[SeenRun]) -> dict[str, bytes]:
        """The JSON of each run, by its id. Raises psycopg.Error."""
        telling = [run for run in runs if run.told_at is not None]
        told: dict[str, Told] = {}
        if telling:
            with autocommit() as connection:
                self._learn(connection, telling)
                ids = {"ids": uuid_array(run.id for run in telling)}
                told = {row["id"]: told_in(row) for row in fetch(connection, SQL["told_by_runs"], ids)}
        texts = {run.id: to_text(_wire(run, told.get(run.id, NOTHING), self._redactions.get(run.id))) for run in runs}
        for run in runs:
            if run.is_closed:
                self._redactions.pop(run.id, None)
        return texts

    def _learn(self, connection: Connection, runs: Sequence[SeenRun]) -> None:
        if len(self._redactions) > _MOST_REMEMBERED:
            self._redactions.clear()  # of runs that nobody watches any more
        unknown = {run.id: run.event for run in runs if run.id not in self._redactions}
        quoting = [run_id for run_id, event in unknown.items() if _has_personal_data(event)]
        self._redactions |= {
            run_id: Redaction(event, None) for run_id, event in unknown.items() if run_id not in quoting
        }
        if quoting:
            for row in bodies.brought(connection, fetch(connection, SQL["payloads"], {"ids": uuid_array(quoting)})):
                self._redactions[row["id"]] = redaction_of(unknown[row["id"]], opened_to_show(row)["payload"])


def _has_personal_data(event: str) -> bool:
    """Also an event that is not known here: anything in it may be."""
    model = find_event(event)
    return model is None or bool(sensitive_fields(model))


def _wire(run: SeenRun, told: Told, hide: Redaction | None) -> dict[str, Any]:
    """hide: None where nobody knows what is personal data, because the payload is gone; then nothing is told."""
    progress = None
    if told.progress is not None and hide is not None:
        progress = {
            "done": told.progress.done, "total": told.progress.total, "message": hide.text(told.progress.message),
            "at": told.progress.at,
        }  # fmt: skip
    return {
        "id": run.id, "event": run.event, "queue": run.queue, "state": run.state, "isClosed": run.is_closed,
        "attempt": run.attempt, "progress": progress,
        "metadata": {} if hide is None else hide.data(told.metadata),
    }  # fmt: skip
