"""What is revoked before it is sent, by its id or by its stamps: on record, so that no restart forgets it.

Kept beside the groups, like what tasks say of themselves, and for as long. A tenant's revocations concern its own runs
alone; those of code without a tenant concern everybody's. They are looked at when a run is sent whose id its sender
knew before, as those of a canvas, or that has stamps: other runs cannot have been revoked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, Final

import psycopg
from celery.utils.functional import maybe_list

from cgk_tasks.celery_tasks import groups
from cgk_tasks.flow.accept import current_unit
from cgk_tasks.runs import store, typed_json
from cgk_tasks.runs.models import NewRun
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import autocommit, execute, fetch
from cgk_tasks.tenancy.context import find_current_tenant
from cgk_tasks.tenancy.visibility import sees_all

_EVERYBODY: Final = "*"

Stamps = Mapping[str, Any]
"""The names of stamped headers, each with one value or several."""


def note_id(run_id: str) -> None:
    """Revoke what may be sent under this id."""
    _note([_of_id(_revoker(), run_id)])


def note_stamps(stamps: Stamps) -> None:
    """Revoke what may be sent with one of these stamps."""
    _note(list(_of_stamps(_revoker(), stamps)))


def is_revoked(run_id: str) -> bool:
    """Whether a run of this id, of which there is none, was revoked here."""
    return bool(_noted({_of_id(one, run_id) for one in (_EVERYBODY, _revoker())}))


def noted_ids() -> list[str]:
    """The run ids that were revoked before they were sent: by this tenant, or by anybody where none is at work."""
    prefix = "revoked:" if _revoker() == _EVERYBODY else f"revoked:{_revoker()}:"
    with autocommit() as connection:
        rows = fetch(connection, groups.SQL["groups_from"], {"prefix": prefix})
    return [str(row["id"]).rpartition(":")[2] for row in rows]


def revoked_among(runs: Sequence[NewRun]) -> list[NewRun]:
    """Those of the runs that were revoked before they are sent."""
    notes = {run.id: _notes_about(run) for run in runs}
    noted = _noted({note for one in notes.values() for note in one})
    return [run for run in runs if noted & notes[run.id]] if noted else []


def waiting_with(stamps: Stamps) -> list[str]:
    """The ids of open runs that have one of these stamps: their own where this is a tenant's code."""
    wanted, found = set(_of_stamps("", stamps)), []
    here = find_current_tenant()
    values = {"tenant_id": None if here is None or sees_all() else here.id, "after": None}
    while True:
        with autocommit() as connection:
            rows = fetch(connection, groups.SQL["open_with_canvas"], values)
        for row in rows:
            kept = store.open_canvas(row)
            if kept is not None and wanted & set(_of_stamps("", _stamps_in(kept))):
                found.append(row["id"])
        if not rows:
            return found
        values["after"] = rows[-1]["id"]


def _revoker() -> str:
    here = find_current_tenant()
    return _EVERYBODY if here is None or sees_all() else here.id


def _of_id(revoker: str, run_id: str) -> str:
    return f"revoked:{revoker}:{run_id}"


def _of_stamps(revoker: str, stamps: Stamps) -> Iterable[str]:
    for name, values in stamps.items():
        for value in maybe_list(values) or [None]:
            yield f"revoked_stamp:{revoker}:{name}={json.dumps(value, default=str)}"


def _notes_about(run: NewRun) -> set[str]:
    stamps = {} if run.canvas is None else _stamps_in(run.canvas)
    notes: set[str] = set()
    for revoker in (_EVERYBODY, run.tenant_id):
        notes |= {_of_id(revoker, run.id), *_of_stamps(revoker, stamps)}
    return notes


def _stamps_in(kept: str) -> Stamps:
    """The stamps in what a run has of its canvas."""
    if '"stamps"' not in kept:
        return {}
    found: Stamps = typed_json.read(kept).get("stamps") or {}
    return found


def _note(notes: Sequence[str]) -> None:
    with groups.joined() as connection:
        for one in notes:
            execute(connection, groups.SQL["open_group"], {"group_id": one})


def _noted(notes: set[str]) -> set[str]:
    """Those of the notes that there are. Raises StoreError where no transaction is open."""
    unit = current_unit()
    try:
        with nullcontext(unit.connection) if unit else autocommit() as connection:
            rows = fetch(connection, groups.SQL["which_groups"], {"ids": sorted(notes)})
    except psycopg.Error as exc:
        if unit is not None:
            raise  # the owner of the transaction must see it
        raise postgres.explain(exc) from exc
    return {row["id"] for row in rows}
