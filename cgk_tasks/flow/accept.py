"""Accepting runs: the insert, and the publish after the commit.

Everything that makes runs goes through `accept`: the client, Celery's `delay`, fan-out, canvas and replay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psycopg

from cgk_tasks.broker.envelope import Message, answer_to, packet_message
from cgk_tasks.broker.hints import hint
from cgk_tasks.broker.packets import packets
from cgk_tasks.broker.publisher import SafePublisher, get_publisher
from cgk_tasks.errors import (
    BrokerError,
)
from cgk_tasks.flow import after_cancel, awaited_events, send_rules
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.lanes import hold_back, placed, start, tell_lanes
from cgk_tasks.flow.listeners import LISTENERS
from cgk_tasks.flow.outbox import publish_after_commit
from cgk_tasks.flow.send_rules import Rules, Stored, prepared
from cgk_tasks.flow.thread_sends import ThreadSends
from cgk_tasks.logger import get_logger
from cgk_tasks.runs import insertion, merging, store, woken
from cgk_tasks.runs.models import Dispatch, NewRun, RunHandle
from cgk_tasks.runtime import Part, Runtime, current_runtime
from cgk_tasks.sql import postgres

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


log = get_logger("cgk_tasks.sender")


@dataclass
class UnitOfWork:
    """A transaction that other code opened: runs accepted or woken inside it are published when it has committed.

    of_application: whether it is the application that sends, and not what the framework does at a run's end.
    """

    connection: postgres.AnyConnection
    woken: list[Dispatch] = field(default_factory=list)
    runtime: Runtime = field(default_factory=current_runtime)
    accepted: list[NewRun] = field(default_factory=list)
    of_application: bool = False

    def publish(self) -> None:
        """To be called after the commit. What fails the dispatcher does later."""
        publish(self.accepted)
        if self.woken:
            dispatch(self.woken)


_unit: ContextVar[UnitOfWork | None] = ContextVar("cgk_unit_of_work", default=None)


@contextmanager
def unit_of_work(connection: postgres.AnyConnection, *, of_application: bool = False) -> Iterator[UnitOfWork]:
    """Sends inside the block join the transaction of `connection`. Call `unit.publish()` after its commit."""
    with woken.gathering() as gathered:
        unit = UnitOfWork(connection, gathered, of_application=of_application)
        token = _unit.set(unit)
        try:
            yield unit
        finally:
            _unit.reset(token)


def current_unit() -> UnitOfWork | None:
    """The transaction that sends join here, if there is one. Those of a client with another database do not."""
    unit = _unit.get()
    return unit if unit is not None and unit.runtime is current_runtime() else None


def accept(runs: Sequence[NewRun], session: Session | None = None) -> list[RunHandle]:
    """Insert the runs in one transaction, all or none, and publish those that are due after it has committed.

    With `session`, that is the caller's own transaction. A broker that is down does not fail a send.
    Raises IdempotencyConflictError, StoreError.
    """
    if not runs:
        return []
    hashes = {run.id: hashlib.sha256(run.payload.encode()).digest() for run in runs if run.idempotency_key}
    unit, is_awaited = current_unit(), AWAITED.current().among(runs)
    rules: Rules = {}
    try:
        if any(run.is_ruled for run in runs):
            runs, rules = prepared(runs)
        if session is not None:
            from cgk_tasks.tenancy.database import outside_tenant

            with outside_tenant(session) as own:
                handles, made = _store(own, runs, hashes, rules)
            publish_after_commit(session, made, publish)
        elif unit is not None:
            handles, made = _store(unit.connection, runs, hashes, rules)
            unit.accepted += made
        else:
            handles = _accept_now(placed(runs), hashes, rules, is_awaited)
    except psycopg.Error as exc:
        if unit is not None:
            raise  # the owner of the transaction must see it
        raise postgres.explain(exc) from exc
    if unit is None:  # else the framework sends, with a connection in hand
        LISTENERS.current().warn_of_unserved(runs)
    return handles


def _accept_now(runs: Sequence[NewRun], hashes: Mapping[str, bytes], rules: Rules, is_awaited: bool) -> list[RunHandle]:
    """In a transaction of their own."""
    if len(runs) == 1 and not hashes and not rules and not is_awaited:
        # A message that names who waits for its run is made in the context of its sender.
        return [_SENDS.current().accept(runs[0]) if answer_to.get() is None else _accept_alone(runs[0])]
    takes_several = is_awaited or bool(hashes) or bool(rules) or any(run.place is not None for run in runs)
    handles, made = postgres.retry_conflicts(lambda: _insert(runs, hashes, rules, whole=takes_several))
    publish(made, are_placed=not rules)  # a run that takes in several sends may be full, and due after all
    return handles


def _insert(runs: Sequence[NewRun], hashes: Mapping[str, bytes], rules: Rules, *, whole: bool) -> Stored:
    """whole: whether it takes more than one statement."""
    with postgres.transaction() if whole else postgres.autocommit() as connection:
        return _store(connection, runs, hashes, rules)


def _store(
    connection: postgres.AnyConnection, runs: Sequence[NewRun], hashes: Mapping[str, bytes], rules: Rules
) -> Stored:
    """The runs, and the events among them that workflows wait for."""
    if rules:
        handles, made = send_rules.stored(connection, runs, hashes, rules, _cancel_old)
    else:
        handles = insertion.insert(connection, runs, hashes)
        made = _accepted(runs, handles)
    awaited_events.keep(connection, made)
    for run in runs:
        if run.replay_of is not None and run.payload.startswith("["):  # of a Batch, perhaps one that never began
            merging.copy_events(connection, run.replay_of, run.id)
    return Stored(handles, made)


def _cancel_old(connection: postgres.AnyConnection, run_id: str) -> list[NewRun]:
    """Cancel an open run, whose key another one gets. Returns the runs that follow from its end. It has no parent that
    would go on: runs that have one are made without keys.
    """
    with unit_of_work(connection) as unit:
        after_cancel.follow(store.cancel_with_children(connection, [run_id]))
        merging.leave_single_key(connection, run_id)
    return unit.accepted


def _accept_alone(run: NewRun) -> RunHandle:
    return postgres.retry_conflicts(lambda: _accept_one(run))


def _accept_several(taken: Callable[[], Sequence[NewRun]]) -> None:
    """Runs of several senders, each of which could have been accepted alone. taken: which, now that they go."""

    def insert() -> Stored:
        with postgres.autocommit() as connection:
            runs = taken()
            with connection.transaction() if any(run.place is not None for run in runs) else nullcontext():
                return _store(connection, runs, {}, {})

    _handles, made = postgres.retry_conflicts(insert)
    publish(made, are_placed=True)


def _accept_again(run: NewRun) -> RunHandle:
    """A run that may be on record already, and may even have ended. The insert waits for whoever is about to make it,
    and the history is looked at after that.
    """
    is_made = has_ended = False
    with postgres.transaction() as connection:
        is_made = insertion.insert_one(connection, run) > 0
        has_ended = is_made and bool(store.already_closed(connection, [run.id]))
        if has_ended:
            raise psycopg.Rollback
    if not has_ended and (is_made or run.place is None):  # a second message does no harm; a lane may have been told
        publish([run], are_placed=True)
    return RunHandle(run.id)


_SENDS = Part(lambda: ThreadSends(_accept_alone, _accept_several, _accept_again))


def _accept_one(run: NewRun) -> RunHandle:
    """The message is made while PostgreSQL inserts, and goes out while the disk still writes: the run exists, and this
    returns when it is there for good.
    """
    with postgres.autocommit() as connection, insertion.send_unflushed(connection, run) as sent:
        if run.place is None:
            publisher, messages = get_publisher(), [packet_message([run])] if run.state == "pending" else []
            publisher.prepare(messages)
            sent.done()
            if messages:
                _push([run], messages, publisher)
            else:
                hint([run])
        else:
            told = sent.done()
            if told.ntuples and told.get_value(0, 0) == b"new":
                start(run)
        awaited_events.deliver([run], dispatch)
    return RunHandle(run.id)


def _accepted(runs: Sequence[NewRun], handles: Sequence[RunHandle]) -> list[NewRun]:
    return [run for run, handle in zip(runs, handles, strict=True) if not handle.deduplicated]


def publish(runs: Sequence[NewRun], *, are_placed: bool = False) -> None:
    """Dispatch accepted runs that are due, tell the lanes of those that are held there, and bring events to whoever
    waits. What fails the dispatcher does later. are_placed: whether it is known that the others need not wait in lanes.
    """
    tell_lanes(runs)
    due = [run for run in runs if run.state == "pending"]
    if due and are_placed:
        dispatch_now(due)
    elif due:
        dispatch(due)
    if len(due) < len(runs):
        hint(run for run in runs if run.state == "scheduled")
    awaited_events.deliver(runs, dispatch)


def dispatch(due: Sequence[Dispatch | NewRun], publisher: SafePublisher | None = None) -> bool:
    """Publish runs that are marked as dispatched; takes the mark back when the broker does not take them. Those of
    crowded queues wait in lanes instead.
    """
    due = hold_back(due)
    return not due or dispatch_now(due, publisher)


def dispatch_now(due: Sequence[Dispatch | NewRun], publisher: SafePublisher | None = None) -> bool:
    """The same where it is known that none of them has to wait."""
    return _push(due, [packet_message(packet) for packet in packets(due)], publisher or get_publisher())


def _push(due: Sequence[Dispatch | NewRun], messages: Sequence[Message], publisher: SafePublisher) -> bool:
    try:
        CROWDED.current().note(publisher.publish(messages))
    except BrokerError as exc:
        publisher.postponed.warn(len(due), reason=str(exc))
        try:
            store.forget_dispatch([run.id for run in due])
        except psycopg.Error as also:
            # The dispatcher finds them without the mark too, some seconds later.
            log.warning("dispatch_mark_kept", reason=str(also))
        return False
    publisher.postponed.is_over()
    return True
