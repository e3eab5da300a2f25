"""How runs have ended that somebody waits for: little of their record, and of several with one statement."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Any, Final, NamedTuple

from cgk_tasks.events.typed_values import shown
from cgk_tasks.runs.codec import decode
from cgk_tasks.runs.models import State
from cgk_tasks.runs.sealing import open_error, open_sealed
from cgk_tasks.sql.clock import known_now
from cgk_tasks.sql.postgres import autocommit, fetch_as, fetch_directly, statements, uuid_array

SQL = statements("runs")

_CLOCKS_DIFFER: Final = timedelta(minutes=5)


class Ended(NamedTuple):
    """The end of a run. Its content is opened when it is asked for."""

    id: str
    tenant_id: str
    event: str
    state: State
    key_id: str | None
    closed_at: datetime
    error_code: str | None
    sealed_result: bytes | None
    sealed_error: bytes | None

    @property
    def result_text(self) -> str | None:
        """What its job returned, as JSON text."""
        return open_sealed(self.tenant_id, "result", self.sealed_result, self.key_id)

    @property
    def result(self) -> Any:
        """What its job returned."""
        return shown(self.event, decode(self.result_text))

    @property
    def error(self) -> Mapping[str, Any] | None:
        """That of its last attempt that failed."""
        return open_error(self.tenant_id, self.sealed_error, self.key_id)


def just_ended(ids: Sequence[str]) -> dict[str, Ended]:
    """Those of these runs that have ended within the last minutes, by id. Raises psycopg.Error.

    So few days are looked at that PostgreSQL plans for one partition. A clock that is wrong by more finds none of them.
    """
    now = known_now()
    values: dict[str, Any] = {"since": now - _CLOCKS_DIFFER, "until": now + _CLOCKS_DIFFER}
    with autocommit() as connection:
        if len(ids) == 1:  # PostgreSQL keeps its plan
            found = fetch_directly(connection, SQL["one_just_ended"], values | {"id": ids[0]}, _ended)
        else:
            found = fetch_as(connection, SQL["just_ended"], values | {"ids": uuid_array(ids)}, _ended)
    return {run.id: run for run in found}


def _ended(columns: Sequence[str]) -> Callable[[tuple[Any, ...]], Ended]:
    own = itemgetter(*map(columns.index, Ended._fields))
    return lambda row: Ended._make(own(row))
