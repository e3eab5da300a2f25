"""Accepting runs: options to a `NewRun`, the insert, and the publish after the commit.

Everything that makes runs goes through `accept`: the client, Celery's `delay`, fan-out, canvas and replay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import structlog

from cgk_tasks.broker.envelope import packet_message
from cgk_tasks.broker.packets import packets
from cgk_tasks.broker.publisher import SafePublisher, get_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.errors import (
    LONGEST_WAIT_SECONDS,
    BrokerError,
    InvalidOptionError,
    PayloadTooLargeError,
    TenantContextError,
)
from cgk_tasks.flow import after_cancel, awaited_events, send_rules
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.flow.lanes import hold_back, placed, start, tell_lanes
from cgk_tasks.flow.listeners import LISTENERS
from cgk_tasks.flow.outbox import publish_after_commit
from cgk_tasks.flow.routes import ROUTES
from cgk_tasks.flow.send_rules import Rules, Stored, prepared
from cgk_tasks.runs import insertion, merging, store, tracing, woken
from cgk_tasks.runs.models import Dispatch, NewRun, RunHandle, State, is_priority, is_queue_name, new_run_id
from cgk_tasks.runtime import Runtime, current_runtime
from cgk_tasks.sql import postgres
from cgk_tasks.sql.clock import database_now, known_now
from cgk_tasks.tenancy import registry
from cgk_tasks.tenancy.context import find_current_tenant

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from cgk_tasks.tenancy.models import Tenant

log = structlog.get_logger("cgk_tasks.sender")

_FARTHEST = timedelta(seconds=LONGEST_WAIT_SECONDS)
"""No time may lie farther away: readers of the record know no year after 9999 and none before 1."""


@dataclass(frozen=True, slots=True)
class SendOptions:
    """How a run is sent. Durations are seconds or timedelta; datetimes must be aware. No time is
    more than a hundred years away.
    """

    delay: float | timedelta | None = None
    run_at: datetime | None = None
    idempotency_key: str | None = None
    max_attempts: int | None = None
    queue: str | None = None
    priority: int | None = None
    expires: float | timedelta | datetime | None = None


NO_OPTIONS = SendOptions()
"""As most runs are sent. The same object, so that it is known at a glance."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from, if not from a plain send."""

    run_id: str | None = None
    job: str | None = None
    parent_id: str | None = None
    replay_of: str | None = None
    canvas: str | None = None
    scheduled_for: datetime | None = None
    """The nominal time: a child has its parent's, a replay that of the run it repeats."""
    trace: str | None = None


_NOWHERE = Origin()


def new_run(
    event: str,
    tenant_id: str,
    payload: str,
    options: SendOptions,
    origin: Origin | None = None,
    tenant: Tenant | None = None,
    search_fields: str | None = None,
) -> NewRun:
    """Check the options and make the run. `tenant`: as known already; None asks the registry. search_fields: what can
    be searched of the payload, where it is known.

    Raises InvalidOptionError, PayloadTooLargeError, UnknownTenantError, and TenantContextError for a send that names
    another tenant than the one whose work runs now.
    """
    here = find_current_tenant()
    if here is not None and here.id != tenant_id:
        raise TenantContextError(
            f"{event} was sent for tenant {tenant_id!r} in the context of tenant {here.id!r}.",
            hint="Is it the right tenant? Code that works for several uses platform_context().",
        )
    origin = origin or _NOWHERE
    check_size(event, payload)
    clock = database_now if tenant is None else known_now  # a provider that knows the tenant may have no database
    tenant = tenant or registry.require(tenant_id)
    state: State = "held" if tenant.state == "suspended" else "pending"
    run_id = origin.run_id or new_run_id()
    trace = origin.trace or tracing.sent(event, tenant_id, run_id)
    queue, priority, rules = ROUTES.current().of_send(event)
    if options is NO_OPTIONS and rules is None:
        return NewRun(
            run_id, tenant_id, event, payload, queue, priority, state, origin.job, None, None,
            None, None, origin.parent_id, origin.replay_of, origin.canvas, origin.scheduled_for, trace,
            search_fields,
        )  # fmt: skip
    # A run that is made in any case: an operator repeats one, or a workflow waits for the end of this very one.
    is_ruled = rules is not None and bool(rules.rules) and origin.replay_of is None and origin.parent_id is None
    ttl = None if rules is None or options.expires is not None else rules.ttl
    now = clock()
    run_at = due_time(options.delay, options.run_at, now)
    if state == "pending" and run_at is not None and run_at > now:
        state = "scheduled"
    return NewRun(
        id=run_id,
        tenant_id=tenant_id,
        event=event,
        payload=payload,
        queue=queue if options.queue is None else queue_name(options.queue),
        priority=priority if options.priority is None else _priority(options.priority),
        state=state,
        job=origin.job,
        max_attempts=_max_attempts(options.max_attempts),
        run_at=run_at,
        expires_at=_expiry(options.expires, now, run_at or now, ttl),
        idempotency_key=_key(options.idempotency_key),
        parent_id=origin.parent_id,
        replay_of=origin.replay_of,
        canvas=origin.canvas,
        scheduled_for=origin.scheduled_for,
        trace=trace,
        search_fields=search_fields,
        is_ruled=is_ruled,
        ttl=ttl if is_ruled else None,
    )


def check_size(event: str, payload: str) -> None:
    """Raises PayloadTooLargeError."""
    most = get_settings().max_payload_bytes
    # A character is up to four bytes: most payloads need not be encoded to be known as small enough.
    if 4 * len(payload) > most and (size := len(payload.encode())) > most:
        raise PayloadTooLargeError(event, size, most)


def due_time(delay: float | timedelta | None, run_at: datetime | None, now: datetime) -> datetime | None:
    """When a run is due: None for at once. Raises InvalidOptionError."""
    if delay is not None and run_at is not None:
        raise InvalidOptionError("delay", "was given together with run_at.", hint="Give one of them")
    if run_at is not None:
        return _moment("run_at", run_at, now)
    if delay is None:
        return None
    pause = _duration("delay", delay)
    return now + pause if pause else None


def _duration(option: str, value: object) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise InvalidOptionError(option, f"must be seconds or a timedelta, not {type(value).__name__}")
    try:
        duration = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except OverflowError:
        raise _too_far(option) from None
    except ValueError:
        raise InvalidOptionError(option, f"cannot be {value} seconds") from None
    if duration > _FARTHEST:
        raise _too_far(option)
    if duration < timedelta(0):
        raise InvalidOptionError(
            option, f"is negative ({duration.total_seconds():g} s).", hint="Leave it out to run at once"
        )
    return duration


def _too_far(option: str) -> InvalidOptionError:
    return InvalidOptionError(option, "is more than a hundred years away")


def _moment(option: str, value: object, now: datetime) -> datetime:
    if not isinstance(value, datetime):
        raise InvalidOptionError(option, f"must be a datetime, not {type(value).__name__}")
    if value.tzinfo is None:
        raise InvalidOptionError(
            option,
            "has no time zone.",
            hint="Use an aware datetime, for instance datetime.now(UTC) + timedelta(days=1)",
        )
    if abs(value - now) > _FARTHEST:
        raise _too_far(option)
    return value


def _expiry(
    value: float | timedelta | datetime | None, now: datetime, due: datetime, ttl: float | None
) -> datetime | None:
    """What the send says, else what the event's job does."""
    if value is None:
        return None if ttl is None else due + timedelta(seconds=ttl)
    return _moment("expires", value, now) if isinstance(value, datetime) else now + _duration("expires", value)


def _priority(value: int) -> int:
    if not is_priority(value):
        raise InvalidOptionError("priority", f"must be a whole number from 0 (can wait) to 9 (urgent), not {value!r}")
    return value


def _max_attempts(value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 10_000):
        raise InvalidOptionError("max_attempts", f"must be a whole number from 1 to 10000, not {value!r}")
    return value


def queue_name(value: str) -> str:
    """The name, if it can be that of a queue. Raises InvalidOptionError."""
    if not is_queue_name(value):
        raise InvalidOptionError("queue", f"must be a name of 1 to 200 printable characters, not {value!r}")
    return value


def _key(value: str | None) -> str | None:
    if value is not None and (not isinstance(value, str) or not 0 < len(value) <= 500 or "\0" in value):
        raise InvalidOptionError("idempotency_key", "must be a text of 1 to 500 characters")
    return value


@dataclass
class UnitOfWork:
    """A transaction that other code opened: runs accepted or woken inside it are published when it has committed."""

    connection: postgres.AnyConnection
    woken: list[Dispatch] = field(default_factory=list)
    runtime: Runtime = field(default_factory=current_runtime)
    accepted: list[NewRun] = field(default_factory=list)

    def publish(self) -> None:
        """To be called after the commit. What fails the dispatcher does later."""
        publish(self.accepted)
        if self.woken:
            dispatch(self.woken)


_unit: ContextVar[UnitOfWork | None] = ContextVar("cgk_unit_of_work", default=None)


@contextmanager
def unit_of_work(connection: postgres.AnyConnection) -> Iterator[UnitOfWork]:
    """Sends inside the block join the transaction of `connection`. Call `unit.publish()` after its commit."""
    with woken.gathering() as gathered:
        unit = UnitOfWork(connection, gathered)
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
        return [postgres.retry_conflicts(lambda: _accept_one(runs[0]))]
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


def _accept_one(run: NewRun) -> RunHandle:
    """The message goes out while the disk still writes: the run exists, and this returns when it is there for good."""
    with postgres.autocommit() as connection:
        lane_status = insertion.insert_unflushed(connection, run)
        with postgres.flushing(connection):
            if run.place is None:
                publish([run], are_placed=True)
            else:
                if lane_status == "new":
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
        _dispatch_now(due, get_publisher())
    elif due:
        dispatch(due)
    awaited_events.deliver(runs, dispatch)


def dispatch(due: Sequence[Dispatch | NewRun], publisher: SafePublisher | None = None) -> bool:
    """Publish runs that are marked as dispatched; takes the mark back when the broker does not take them. Those of
    crowded queues wait in lanes instead.
    """
    due = hold_back(due)
    return not due or _dispatch_now(due, publisher or get_publisher())


def _dispatch_now(due: Sequence[Dispatch | NewRun], publisher: SafePublisher) -> bool:
    try:
        CROWDED.current().note(publisher.publish([packet_message(packet) for packet in packets(due)]))
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
