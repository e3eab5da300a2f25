"""The end of a run whose job has written with `ctx.db`: what it wrote and its completion are one transaction."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import psycopg

from cgk_tasks.errors import StaleAttemptError
from cgk_tasks.flow.accept import UnitOfWork, unit_of_work
from cgk_tasks.runs import ends
from cgk_tasks.runs.ends import Closed, Closing
from cgk_tasks.sql.postgres import AnyConnection

if TYPE_CHECKING:
    from cgk_tasks.runs.store import Claimed
    from cgk_tasks.tenancy.database import Last, TenantSession


class RefusedError(Exception):
    """The record, and not what the job wrote, is why a completion cannot be committed. Its cause says how."""


def commit_with_end(
    session: TenantSession,
    worker_id: str,
    run: Claimed,
    closing: Callable[[], Closing],
    follow: Callable[[Sequence[Closed]], None],
    *,
    flush: bool,
) -> float:
    """Commit a session with the end of its run, and with what `follow` does about it. Returns the seconds that the
    commit took. closing: the end, once what is written is there. flush: wait for the disk.

    Raises StaleAttemptError when the run is not this worker's any more, RefusedError, and whatever the commit raises;
    then nothing of it is written.
    """
    units: list[UnitOfWork] = []
    committing = time.monotonic()

    def end() -> Closing:
        nonlocal committing
        committing = time.monotonic()
        return closing()

    def finish(connection: AnyConnection) -> None:
        nonlocal committing
        with unit_of_work(connection) as unit:
            follow(_finish(connection, worker_id, end(), flush=flush))
        units.append(unit)
        committing = time.monotonic()

    session.commit_with(finish, None if _is_followed(run) else _last(worker_id, end, flush=flush))
    took = time.monotonic() - committing
    for unit in units:
        unit.publish()
    return took


def _is_followed(run: Claimed) -> bool:
    """Whether something may follow from its end: in a canvas, or to its parent."""
    return run.sealed_canvas is not None or run.parent_id is not None


def _last(worker_id: str, end: Callable[[], Closing], *, flush: bool) -> Last:
    """The end of a run from which nothing follows."""
    from cgk_tasks.tenancy.database import Last

    def values() -> dict[str, Any]:
        return ends.values_of_one(worker_id, end(), flush=flush)

    return Last(ends.TRANSITIONS["finish_one_or_fail"], values, _why_not_ended)


def _finish(connection: AnyConnection, worker_id: str, closing: Closing, *, flush: bool) -> list[Closed]:
    try:
        closed = ends.finish(connection, worker_id, [closing], flush=flush)
    except psycopg.Error as exc:
        if (why := _why_not_ended(exc)) is exc:
            raise
        raise why from exc
    if not closed:
        raise _not_owned()
    return closed


def _why_not_ended(error: psycopg.Error) -> Exception:
    """What a refused end of a run is to the one who commits it."""
    if isinstance(error, psycopg.errors.DivisionByZero):  # which the statement makes of a run that it does not find
        return _not_owned()
    if isinstance(error, psycopg.OperationalError):  # also a serialization failure: the next attempt may not meet it
        return error
    return RefusedError()


def _not_owned() -> StaleAttemptError:
    return StaleAttemptError("This attempt no longer owns its run; what it wrote was rolled back.")
