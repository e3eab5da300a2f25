"""Signals: what somebody sends to a run, which its workflow waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cgk_tasks.errors import InvalidOptionError, RunStateError, UnknownRunError
from cgk_tasks.flow.accept import dispatch
from cgk_tasks.flow.new_run import check_size
from cgk_tasks.runs import mails, store
from cgk_tasks.runs.codec import encode
from cgk_tasks.runs.mails import Delivery
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import AnyConnection
from cgk_tasks.tenancy.visibility import may_see
from cgk_tasks.workflows.names import check_name

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

_LONGEST_KEY = 500


def encoded_signal(name: str, payload: object, key: str | None) -> str:
    """The payload as JSON text. Raises ConfigurationError, PermanentError, PayloadTooLargeError, InvalidOptionError."""
    check_name(name)
    if key is not None and (not isinstance(key, str) or not 0 < len(key) <= _LONGEST_KEY or "\0" in key):
        raise InvalidOptionError("key", f"must be a text of 1 to {_LONGEST_KEY} characters")
    text = encode(payload, "Send")
    check_size(name, text)
    return text


def signal(run_id: str, name: str, payload: str, key: str | None = None, session: Session | None = None) -> bool:
    """Keep a signal for a run, and wake the run if it waits for it. payload: JSON text. False if the key was used.

    With `session`, in the caller's transaction, which holds the run until it ends; the dispatcher then wakes the run.
    Raises UnknownRunError, RunStateError for a run that has ended, and the driver's errors.
    """
    if session is not None:
        from cgk_tasks.tenancy.database import outside_tenant

        with outside_tenant(session) as connection:
            delivered = _deliver(connection, run_id, name, payload, key, publishes=False)
            return any(one.is_new for one in delivered)
    with postgres.transaction() as own:
        delivered = _deliver(own, run_id, name, payload, key, publishes=True)
    woken = [one.woken for one in delivered if one.woken is not None]
    if woken:
        dispatch(woken)
    return any(one.is_new for one in delivered)


def _deliver(
    connection: AnyConnection, run_id: str, name: str, payload: str, key: str | None, *, publishes: bool
) -> list[Delivery]:
    """To the run; to its child runs where its event has several jobs, since one of them is the workflow's."""
    run = mails.lock_run(connection, run_id)
    found = {run_id: run} if run is not None else mails.lock_children(connection, run_id)
    if not found:
        closed = store.find(run_id, connection)
        if closed is None:
            raise UnknownRunError(run_id)
        raise RunStateError(run_id, closed["state"], "signal")
    if not all(may_see(row["tenant_id"]) for row in found.values()):
        raise UnknownRunError(run_id)
    return [mails.deliver(connection, one, row, name, payload, key, publishes=publishes) for one, row in found.items()]
