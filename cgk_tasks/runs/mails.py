"""Mail for runs on record: what has come for a run, and is not taken yet."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from cgk_tasks.runs.invoked import dispatches, mail_of
from cgk_tasks.runs.models import Dispatch, new_run_id
from cgk_tasks.runs.sealing import open_sealed, seal
from cgk_tasks.runs.steps import Fence
from cgk_tasks.sql.postgres import AnyConnection, Row, execute, fetch, statements

SQL, TRANSITIONS = statements("mail"), statements("transitions")


class Mail(NamedTuple):
    """payload: JSON text."""

    id: str
    payload: str


class Delivery(NamedTuple):
    """What became of mail. is_new: its key was not used before. woken: the run, if it waited for it and may go on."""

    is_new: bool
    woken: Dispatch | None = None


def oldest(connection: AnyConnection, run: Fence, name: str) -> Mail | None:
    """The oldest mail of the name that is not taken, locked."""
    rows = fetch(connection, SQL["oldest_mail"], {"id": run.id, "name": name})
    return _mail(run, rows[0]) if rows else None


def take(connection: AnyConnection, run: Fence, mail: Mail) -> None:
    execute(connection, SQL["take_mail"], {"id": run.id, "mail_id": mail.id})


def lock_run(connection: AnyConnection, run_id: str, *, waits: bool = True) -> Row | None:
    """An open run's tenant and key; the row is locked until the transaction ends. None for a run that is not open, and
    for one that has child runs; unless it `waits`, also for one that somebody else has locked.
    """
    rows = fetch(connection, SQL["lock_run" if waits else "lock_run_if_free"], {"id": run_id})
    return rows[0] if rows else None


def lock_children(connection: AnyConnection, run_id: str) -> dict[str, Row]:
    """The open child runs of a run, as `lock_run` has them."""
    return {row["id"]: row for row in fetch(connection, SQL["lock_children"], {"id": run_id})}


def hand_down(connection: AnyConnection, run_id: str, children: Sequence[str]) -> None:
    """Give these runs the mail that came for this one and is not taken, in the transaction that makes them."""
    execute(connection, SQL["hand_down_mail"], {"id": run_id, "children": list(children)})


def deliver(
    connection: AnyConnection, run_id: str, run: Row, name: str, payload: str, key: str | None, *, publishes: bool
) -> Delivery:
    """Keep mail for a run that `lock_run` has locked, and wake the run if it waits for it.

    publishes: whether the caller publishes a woken run after the commit; else the dispatcher does.
    """
    values = {
        "id": run_id, "mail_id": new_run_id(), "name": name, "key": key, "tenant_id": run["tenant_id"],
        "key_id": run["key_id"], "sealed_payload": seal(run["tenant_id"], "mail", payload, run["key_id"]),
    }  # fmt: skip
    if not fetch(connection, SQL["insert_mail"], values):
        return Delivery(is_new=False)
    woken = fetch(
        connection, TRANSITIONS["wake_for_mail"], {"id": run_id, "name": name, "publishes": publishes}
    )  # fmt: skip
    return Delivery(True, next(iter(dispatches(woken)), None))


def wake_at_once(connection: AnyConnection, run_id: str, names: Sequence[str]) -> Sequence[Dispatch]:
    """Of a run that was suspended in this transaction: wake it if mail of one of the names is there."""
    values = {"id": run_id, "names": list(names), "publishes": True}
    return dispatches(fetch(connection, TRANSITIONS["wake_at_once"], values))


def ends_for(connection: AnyConnection, run: Fence, children: Sequence[str]) -> dict[str, Mail]:
    """How these child runs ended, of those that have and whose mail is not taken, by their ids."""
    ids = {mail_of(child): child for child in children}
    rows = fetch(connection, SQL["ends_for"], {"id": run.id, "names": list(ids)})
    return {ids[row["name"]]: _mail(run, row) for row in rows}


def take_ends(connection: AnyConnection, run: Fence, ends: Iterable[Mail]) -> None:
    execute(connection, SQL["take_ends"], {"id": run.id, "ids": [end.id for end in ends]})


def _mail(run: Fence, row: Row) -> Mail:
    payload = open_sealed(run.tenant_id, "mail", row["sealed_payload"], row["key_id"])
    return Mail(row["id"], payload or "null")
