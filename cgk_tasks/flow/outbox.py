"""Runs that belong to a transaction of SQLAlchemy's: they are published once it has committed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cgk_tasks.runs.models import NewRun
from cgk_tasks.runtime import Runtime, current_runtime

if TYPE_CHECKING:
    from sqlalchemy.orm import Session, SessionTransaction

Publish = Callable[[Sequence[NewRun]], None]

_OUTBOX = "cgk_tasks_outbox"


class _Waiting(NamedTuple):
    """A run whose transaction is open yet, and who publishes it when that has committed."""

    run: NewRun
    savepoints: list[SessionTransaction]
    runtime: Runtime


def publish_after_commit(session: Session, runs: Sequence[NewRun], publish: Publish) -> None:
    """Have runs published that are written in the session's transaction, unless it or a savepoint is rolled back."""
    from sqlalchemy import event as sa_event

    outbox: list[_Waiting] | None = session.info.get(_OUTBOX)
    if outbox is None:
        outbox = session.info[_OUTBOX] = []
        sa_event.listen(session, "after_commit", partial(_committed, publish))
        sa_event.listen(session, "after_soft_rollback", _rolled_back)
    savepoints = _open_savepoints(session)
    outbox += [_Waiting(run, savepoints, current_runtime()) for run in runs]


def _open_savepoints(session: Session) -> list[SessionTransaction]:
    """The savepoints around what is written now: if one of them is rolled back, it is gone."""
    savepoints = []
    transaction = session.get_nested_transaction()
    while transaction is not None and transaction.nested:
        savepoints.append(transaction)
        transaction = transaction.parent
    return savepoints


def _committed(publish: Publish, session: Session) -> None:
    if session.in_nested_transaction():
        return  # a savepoint was released; nothing is durable yet
    runs: dict[Runtime, list[NewRun]] = {}
    for waiting in session.info[_OUTBOX]:
        runs.setdefault(waiting.runtime, []).append(waiting.run)
    session.info[_OUTBOX].clear()
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        _publish_each(publish, runs)
    else:
        loop.run_in_executor(None, _publish_each, publish, runs)


def _publish_each(publish: Publish, runs: Mapping[Runtime, Sequence[NewRun]]) -> None:
    for runtime, its in runs.items():
        with runtime.active():
            publish(its)


def _rolled_back(session: Session, previous: SessionTransaction) -> None:
    outbox = session.info[_OUTBOX]
    outbox[:] = [one for one in outbox if previous.nested and previous not in one.savepoints]
