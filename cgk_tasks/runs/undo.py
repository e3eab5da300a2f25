"""Runs that undo what they have done before they end, on record.

That a run has something to undo is a step of its own, written when its function says so; that it is to be undone, and
how it ends then, is another one. From then on its legs do nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from cgk_tasks.runs import woken
from cgk_tasks.runs.invoked import dispatches
from cgk_tasks.runs.models import Dispatch
from cgk_tasks.runs.sealing import seal
from cgk_tasks.runs.steps import Fence, Memo
from cgk_tasks.sql.postgres import AnyConnection, Row, execute, fetch, statements

SQL, TRANSITIONS = statements("steps"), statements("transitions")

COMPENSATES: Final = Memo("$compensates", 1, 0, "compensates", "done", "null")
"""The run has something to undo."""

_UNDO: Final = "$undo"


class Undo(NamedTuple):
    """How a run ends that is undone. error: of one that fails, as JSON text."""

    state: Literal["failed", "cancelled"]
    error: str | None = None
    code: str | None = None

    @property
    def memo(self) -> Memo:
        return Memo(_UNDO, 1, 0, "undo", "begun", self.text)

    @property
    def text(self) -> str:
        return json.dumps(self._asdict())


def undo_of(memos: Sequence[Memo]) -> Undo | None:
    """Whether the run with these steps is to be undone."""
    found = next((memo for memo in memos if memo.kind == "undo"), None)
    return None if found is None else Undo(**json.loads(found.result or "{}"))


def begin(connection: AnyConnection, run: Fence, job: str, undo: Undo) -> list[Dispatch]:
    """Running → pending: the run's next leg undoes what it has done. Empty if the attempt no longer owns the run.

    A request to cancel it is answered with that.
    """
    rows = fetch(connection, TRANSITIONS["undo"], {**run._asdict(), "job": job})
    if rows:
        _note(connection, [{"id": run.id, "tenant_id": run.tenant_id, "key_id": run.key_id}], undo)
    return dispatches(rows)


def begin_waiting(connection: AnyConnection, ids: Sequence[str]) -> list[str]:
    """Of runs that are cancelled, and their children: let those undo what they have done that no worker holds, and that
    have something to undo. Returns their ids.
    """
    if not fetch(connection, TRANSITIONS["has_steps"])[0]["yes"]:  # an upgrade is under way
        return []
    rows = fetch(connection, TRANSITIONS["with_something_to_undo"], {"ids": list(ids)})
    if not rows:
        return []
    _note(connection, rows, Undo("cancelled"))
    undone = [row["id"] for row in rows]
    values = {"ids": undone, "publishes": woken.are_published()}
    woken.note(dispatches(fetch(connection, TRANSITIONS["wake_these"], values)))
    execute(connection, TRANSITIONS["forget_cancel_request"], {"ids": undone})
    return undone


def _note(connection: AnyConnection, runs: Sequence[Row], undo: Undo) -> None:
    execute(connection, SQL["note_undo"], {
        "id": [run["id"] for run in runs], "tenant_id": [run["tenant_id"] for run in runs],
        "key_id": [run["key_id"] for run in runs],
        "sealed_result": [seal(run["tenant_id"], "step_result", undo.text, run["key_id"]) for run in runs],
    })  # fmt: skip
