"""Runs that workflows invoke, on record. Whatever ends one brings its end to who invoked it, as mail."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cgk_tasks.runs import woken
from cgk_tasks.runs.codec import result_for_others
from cgk_tasks.runs.models import Dispatch, new_run_id
from cgk_tasks.runs.sealing import opened, seal
from cgk_tasks.sql.postgres import AnyConnection, Row, execute, fetch, statements

MAIL, TRANSITIONS = statements("mail"), statements("transitions")


def mail_of(child_id: str) -> str:
    """The name of the mail that says how a child run ended."""
    return f"child {child_id}"


def end_of(state: str, result: str | None, code: str | None, error: Mapping[str, Any] | None) -> str:
    """What the mail says. result, and what is returned, is JSON text."""
    if state == "completed":
        return f'{{"state": "completed", "result": {result_for_others(result)}}}'
    return json.dumps({"state": state, "code": code, "message": (error or {}).get("message", "")})


def bring_ends(connection: AnyConnection, closed: Sequence[str]) -> None:
    """Bring the ends of runs that this transaction has closed to the workflows that invoked them. A parent is woken
    when it waits for no further one.
    """
    ends = [opened(row) for row in fetch(connection, MAIL["ends_for_parents"], {"ids": list(closed)})]
    if not ends:
        return
    mails, parents = [mail_of(end["id"]) for end in ends], [end["parent_id"] for end in ends]
    execute(connection, MAIL["insert_ends"], {
        "run_id": parents, "id": [new_run_id() for _ in ends], "name": mails, "key": [end["state"] for end in ends],
        "tenant_id": [end["tenant_id"] for end in ends], "key_id": [end["parent_key_id"] for end in ends],
        "sealed_payload": [_sealed(end) for end in ends],
    })  # fmt: skip
    values = {
        "parents": parents, "mails": mails, "states": [end["state"] for end in ends],
        "publishes": woken.are_published(),
    }  # fmt: skip
    woken.note(dispatches(fetch(connection, TRANSITIONS["wake_parents"], values)))


def _sealed(end: Mapping[str, Any]) -> bytes:
    text = end_of(end["state"], end["result"], end["error_code"], end["error"])
    return seal(end["tenant_id"], "mail", text, end["parent_key_id"])


def wake_at_once(connection: AnyConnection, run_id: str, waits: Sequence[tuple[str, int, bool]]) -> Sequence[Dispatch]:
    """Of a run that was suspended in this transaction: wake it if nothing is left to come for a step that waits for
    child runs. waits: name and number of each such step, and whether a child that fails ends its wait.
    """
    values = {
        "id": run_id, "name": [name for name, _, _ in waits], "nth": [nth for _, nth, _ in waits],
        "stops_at_failure": [stops for _, _, stops in waits], "publishes": True,
    }  # fmt: skip
    return dispatches(fetch(connection, TRANSITIONS["wake_parent_at_once"], values))


def dispatches(rows: Sequence[Row]) -> list[Dispatch]:
    """Those that were woken and are not held."""
    return [Dispatch.of(row) for row in rows if row["state"] == "pending"]
