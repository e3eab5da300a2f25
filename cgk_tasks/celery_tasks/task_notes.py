"""What a task says of its run beyond the record: a state of its own, the tasks that it sent, that it is forgotten.

Kept beside the groups, as a group of the run's own: its tree is what the run sent, its one member the state. So it is
sealed with the tenant's key, and goes when groups go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from celery import states

from cgk_tasks.celery_tasks.groups import SQL
from cgk_tasks.runs import typed_json
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.models import run_id_of
from cgk_tasks.runs.sealing import key_for, open_sealed, seal
from cgk_tasks.sql.postgres import AnyConnection, autocommit, execute, fetch

_OF_THE_RECORD: Final = states.READY_STATES | {states.RETRY, states.RECEIVED}
"""States that the record of runs alone decides."""


@dataclass(frozen=True, slots=True)
class Notes:
    """state: of the task's own making, with its meta; of the attempt with so many retries, or of any."""

    state: str | None = None
    meta: Any = None
    retries: int | None = None
    tenant_id: str | None = None
    children: list[Any] = field(default_factory=list)
    is_forgotten: bool = False


_NOTHING: Final = Notes()


def keeps(state: str | None) -> bool:
    """Whether a task may say this state of itself."""
    return state is not None and state not in _OF_THE_RECORD


def find(task_id: str, connection: AnyConnection) -> Notes:
    """What is noted of a task."""
    rows = fetch(connection, SQL["get_notes"], {"group_id": _group_of(task_id)})
    if not rows:
        return _NOTHING
    row = rows[0]
    children = decode(row["children"]) if row["children"] else []
    if row["sealed_result"] is None:
        return Notes(children=children)
    text = open_sealed(row["tenant_id"] or "", "group_result", row["sealed_result"], row["key_id"])
    said = typed_json.read(text)
    return Notes(
        said["state"], said["meta"], row["position"], row["tenant_id"], children, is_forgotten=said["state"] is None
    )


def note_state(task_id: str, tenant_id: str, state: str | None, meta: Any = None, retries: int | None = None) -> None:
    """Keep a state at once, whatever becomes of the attempt. Without a state: forget the run's result."""
    key_id = key_for(tenant_id)
    said = encode({"state": state, "meta": meta}, "update_state", keep_types=True)
    values = {
        "group_id": _group_of(task_id), "run_id": run_id_of(task_id), "position": retries, "tenant_id": tenant_id,
        "key_id": key_id, "sealed_result": seal(tenant_id, "group_result", said, key_id),
    }  # fmt: skip
    with autocommit() as connection:
        execute(connection, SQL["note_state"], values)


def note_children(task_id: str, results: list[Any], connection: AnyConnection | None = None) -> None:
    """Keep which tasks were sent by a task or follow it, for `AsyncResult.children`, `collect` and `get_leaf`."""
    values = {"group_id": _group_of(task_id), "results": encode([result.as_tuple() for result in results])}
    if connection is not None:
        execute(connection, SQL["note_children"], values)
        return
    with autocommit() as own:
        execute(own, SQL["note_children"], values)


def _group_of(task_id: str) -> str:
    return f"run:{run_id_of(task_id)}"
