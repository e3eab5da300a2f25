"""Celery's groups on record: sent all or none, and counted in the transaction that closes their members."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psycopg

from cgk_tasks.flow.accept import accept, current_unit, unit_of_work
from cgk_tasks.runs.codec import decode, encode
from cgk_tasks.runs.models import NewRun, RunHandle
from cgk_tasks.runs.sealing import key_for, open_sealed, seal
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import AnyConnection, Row, execute, fetch, statements

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

SQL = statements("groups")


@contextmanager
def joined() -> Iterator[AnyConnection]:
    """The connection of the unit of work that is open here, or else a transaction of its own.

    Runs that are sent inside join it, and are published when it has committed. Raises StoreError where the
    transaction is its own.
    """
    unit = current_unit()
    if unit is not None:
        yield unit.connection
        return
    try:
        with postgres.transaction() as connection, unit_of_work(connection) as own:
            yield connection
    except psycopg.Error as exc:
        raise postgres.explain(exc) from exc
    own.publish()


@contextmanager
def savepoint() -> Iterator[None]:
    """What the block writes and sends is reclaimed when it raises; the transaction around it goes on."""
    unit = current_unit()
    if unit is None:
        yield
        return
    sent = len(unit.accepted)
    connection = unit.connection
    try:
        with connection.transaction() if isinstance(connection, psycopg.Connection) else connection.begin_nested():
            yield
    except BaseException:
        del unit.accepted[sent:]
        raise


@dataclass
class _Together:
    admitted: Callable[[list[NewRun]], list[NewRun]] = list
    """Those of the runs that are to be accepted."""
    runs: dict[str, NewRun] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    depth: int = 1
    """How many groups are open, one inside the other."""


_together: ContextVar[_Together | None] = ContextVar("cgk_sent_together", default=None)


@contextmanager
def sent_together(admitted: Callable[[list[NewRun]], list[NewRun]]) -> Iterator[None]:
    """Runs that are sent inside are accepted at the end of the block: all or none, with one statement. admitted: says
    which of them.
    """
    outer = _together.get()
    if outer is not None:
        outer.depth += 1
        try:
            yield
        finally:
            outer.depth -= 1
        return
    together = _Together(admitted)
    token = _together.set(together)
    try:
        yield
    finally:
        _together.reset(token)
    _accept(together)


def send_collected() -> None:
    """Accept what a group's generator has given so far, unless the group is a part of another one."""
    together = _together.get()
    if together is None or together.depth > 1:
        return
    token = _together.set(None)
    try:
        _accept(together)
    finally:
        _together.reset(token)


def _accept(together: _Together) -> None:
    runs = list(together.runs.values())
    if together.sizes:
        with joined() as connection:
            _write_sizes(connection, together)
            accept(together.admitted(runs))
    elif runs:
        accept(together.admitted(runs))
    together.runs.clear()


def are_sent_together() -> bool:
    """Whether runs that are sent now are accepted with others of their group."""
    return _together.get() is not None


def send(run: NewRun, session: Session | None = None) -> RunHandle:
    """Accept a run, at once or with the others of its group; with `session`, in the caller's own transaction."""
    together = _together.get()
    if together is None or session is not None or run.idempotency_key is not None:
        return accept([run], session)[0]
    together.runs.setdefault(run.id, run)  # a frozen signature that is named twice is one run
    return RunHandle(run.id)


def set_size(group_id: str, size: int) -> None:
    """Say how many members a group has. Celery does so before it sends the last one."""
    together = _together.get()
    if together is not None:
        together.sizes[group_id] = size
        return
    with joined() as connection:
        _write_sizes(connection, _Together(sizes={group_id: size}))


def write_sizes() -> None:
    """Call this before a message leaves at once (`durable=False`): its run may end before the rest is accepted."""
    together = _together.get()
    if together is not None and together.sizes:
        with joined() as connection:
            _write_sizes(connection, together)


def _write_sizes(connection: AnyConnection, together: _Together) -> None:
    for group_id, size in together.sizes.items():
        execute(connection, SQL["set_size"], {"group_id": group_id, "size": size})
    together.sizes.clear()


def add_member(group_id: str) -> None:
    """One more member than its sender has said."""
    with joined() as connection:
        execute(connection, SQL["add_member"], {"group_id": group_id})


@dataclass(frozen=True, slots=True)
class Member:
    """A run of a group that has closed: with its result as JSON, or with what went wrong."""

    group_id: str
    run_id: str
    tenant_id: str
    position: int | None = None
    result: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """A group whose members have all closed, in their order. `tree`: Celery's tuple of a nested group's results."""

    members: list[Member]
    tree: Any = None


def close_member(connection: AnyConnection, member: Member) -> Ended | None:
    """Count a member. Returns the group when it was the last one; a member that comes twice counts once."""
    execute(connection, SQL["open_group"], {"group_id": member.group_id})
    tenant_id, key_id = member.tenant_id, key_for(member.tenant_id)
    values = {
        "group_id": member.group_id, "run_id": member.run_id, "position": member.position,
        "tenant_id": tenant_id, "key_id": key_id,
        "sealed_result": seal(tenant_id, "group_result", member.result, key_id),
        "sealed_error": seal(tenant_id, "group_error", member.error, key_id),
    }  # fmt: skip
    rows = fetch(connection, SQL["close_member"], values)
    if not rows or not rows[0]["complete"]:
        return None
    members = [
        _member(member.group_id, row) for row in fetch(connection, SQL["members"], {"group_id": member.group_id})
    ]
    execute(connection, SQL["end_group"], {"group_id": member.group_id})
    return Ended(members, decode(rows[0]["results"]))


def _member(group_id: str, row: Row) -> Member:
    tenant_id, key_id = row["tenant_id"] or "", row["key_id"]  # an older release notes no tenant
    result = open_sealed(tenant_id, "group_result", row["sealed_result"], key_id)
    error = open_sealed(tenant_id, "group_error", row["sealed_error"], key_id)
    return Member(group_id, row["run_id"], tenant_id, None, result, error)


def save_results(group_id: str, tree: Any) -> None:
    """Keep the ids of a group's members, as Celery's tuple."""
    with joined() as connection:
        execute(connection, SQL["save_results"], {"group_id": group_id, "results": encode(tree)})


def find_results(group_id: str) -> Any:
    """What `save_results` kept, or None."""
    with joined() as connection:
        rows = fetch(connection, SQL["get_results"], {"group_id": group_id})
    return decode(rows[0]["results"]) if rows else None


def drop(group_id: str) -> None:
    """Forget a group and the count of its members."""
    with joined() as connection:
        execute(connection, SQL["drop_group"], {"group_id": group_id})
