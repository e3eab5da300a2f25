"""The functions that applications call. Their types, one overload for each event, are in api.pyi."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from cgk_tasks.client.client import CLIENT, JobClient, Payload, get_job_client
from cgk_tasks.client.provider import SendItem, SentItem, WaitResult
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.runs.models import RunHandle, RunStatus
from cgk_tasks.runtime import current_runtime

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncSession
    from sqlalchemy.orm import Session


def send_job(event: str | TenantEvent, payload: Payload | None = None, **options: Any) -> RunHandle:
    """Send one event; its jobs run in a worker, for its tenant. Returns once the run is on record.

        send_job("order.created", {"tenantId": "acme", "orderId": "o-1", "totalAmount": 59.97})
        send_job(OrderCreated(tenant_id="acme", order_id="o-1", total_amount=Decimal("59.97")), delay=3600)

    Options: `delay` (seconds or timedelta) or `run_at` (aware datetime), years are fine; `idempotency_key`: within
    24 h a second send with this key and the same payload returns the first run; `max_attempts`; `queue`; `priority`
    0 to 9, 9 is urgent; `expires` (seconds, timedelta or datetime): not run after that; `session`: a SQLAlchemy
    session whose transaction the run belongs to.

    Raises UnknownEventError, PayloadInvalidError, PayloadTooLargeError, TenantMissingError, UnknownTenantError,
    InvalidOptionError, IdempotencyConflictError, StoreError; QueueFullError, QuotaExceededError where the tenant or its
    plan has such limits. Then nothing was sent. A broker that is down is no error.
    """
    return get_job_client().send(event, payload, **options)


def schedule_job(
    event: str | TenantEvent,
    payload: Payload | None = None,
    *,
    delay: float | timedelta | None = None,
    run_at: datetime | None = None,
    **options: Any,
) -> RunHandle:
    """Send one event for later: `send_job` with `delay` (seconds or timedelta) or `run_at` (aware datetime).

    One of the two must be given. The other options are those of `send_job`, and so are the errors.
    """
    _require_time(delay, run_at)
    return send_job(event, payload, delay=delay, run_at=run_at, **options)


def _require_time(delay: float | timedelta | None, run_at: datetime | None) -> None:
    if delay is None and run_at is None:
        raise InvalidOptionError("delay", "or run_at must be given to schedule_job; use send_job to run at once")


def trigger_and_wait(
    event: str | TenantEvent, payload: Payload | None = None, *, timeout: float = 30.0, **options: Any
) -> WaitResult:
    """Send one event and wait up to `timeout` seconds for its end. A timeout is a result; `.unwrap()` raises.

    With several jobs for the event, it waits for all; the result is a dictionary of theirs by job id. The run goes on
    after a timeout. Options and errors are those of `send_job`, without `session`; InvalidOptionError for a negative
    timeout.
    """
    return get_job_client().trigger_and_wait(event, payload, timeout=timeout, **options)


def send_jobs(items: Iterable[SendItem | TenantEvent], *, session: Session | None = None) -> list[RunHandle]:
    """Send many events in one transaction, all or nothing. Returns a handle for each, in their order.

    `session`: a SQLAlchemy session whose transaction the runs belong to. Raises what `send_job` raises; the error's
    `item` says which item it is about, counted from 0. For more than memory holds, use `send_jobs_in_chunks`.
    """
    return get_job_client().send_batch(items, session=session)


def send_jobs_in_chunks(items: Iterable[SendItem | TenantEvent], *, chunk_size: int = 1_000) -> Iterator[SentItem]:
    """Send any number of events, `chunk_size` in a transaction, while you take the results. Memory holds one chunk.

        for sent in send_jobs_in_chunks(orders()):
            if sent.error is not None:
                print(f"order {sent.position} was not sent: {sent.error}")

    Each chunk is sent whole or not at all. There is a result for each item, in their order: of a chunk with a wrong
    item that one has its own error and the others a ChunkRefusedError; the next chunks are sent all the same. Nothing
    is sent before the first result is asked for. Raises InvalidOptionError, and StoreError when PostgreSQL is away:
    then what was returned so far has been sent.
    """
    return get_job_client().send_in_chunks(items, chunk_size)


def get_run(run_id: str) -> RunStatus:
    """The run as it stands in the record: state, attempts, errors, result, times (aware, in UTC).

        run = get_run(handle.id)
        if run.state == "failed":
            print(run.error_code, run.error["message"])

    Raises UnknownRunError if no run has this id or its history was removed, and StoreError.
    """
    return get_job_client().get_run_status(run_id)


def cancel_run(run_id: str) -> RunStatus:
    """Cancel an open run: at once if it waits, within a second if it runs. Returns the run as it stands then.

        cancel_run(handle.id)

    Of a running run, `cancel_requested_at` is set and its job gets a RunCancelledError. A workflow that has something
    to undo does that first (`wf.compensate`); its child runs are cancelled too. Raises UnknownRunError, RunStateError
    if the run has ended, and StoreError.
    """
    return get_job_client().cancel(run_id)


def signal_run(
    run_id: str, name: str, payload: object = None, *, key: str | None = None, session: Session | None = None
) -> bool:
    """Send a signal to an open run, for the workflow that waits for it now or later.

        signal_run(run_id, "approve", {"by": "ada"})

    payload: what JSON can say. key: two signals of the name with one key count once; the second returns False. session:
    a SQLAlchemy session, in whose transaction the signal is sent; it holds the run until it ends. Raises
    UnknownRunError, RunStateError if the run has ended, PayloadTooLargeError, and StoreError.
    """
    return get_job_client().signal(run_id, name, payload, key=key, session=session)


def replay_run(run_id: str, *, from_step: str | None = None) -> RunHandle:
    """Send a closed run again: a new run with the same event and payload, whose `replay_of` names the old one.

        again = replay_run(failed.id)
        again = replay_run(failed.id, from_step="charge")

    Each call makes a new run. from_step: the new run has what the workflow remembers of the steps before this one, and
    does this and the later ones again. Raises UnknownRunError, RunStateError if the run is still open,
    InvalidOptionError for a step that the run has not done, and StoreError.
    """
    return get_job_client().retry(run_id, from_step)


def get_job_status(run_id: str) -> RunStatus:
    """The first name of `get_run`, which new code should call."""
    return get_run(run_id)


def cancel_job(run_id: str) -> RunStatus:
    """The first name of `cancel_run`, which new code should call."""
    return cancel_run(run_id)


def retry_job(run_id: str) -> RunHandle:
    """The first name of `replay_run`, which new code should call."""
    return replay_run(run_id)


async def _in_thread(function: Any, *args: Any, session: AsyncSession | Session | None = None, **options: Any) -> Any:
    """Call the sync twin without blocking the event loop; with an AsyncSession, on its own connection."""
    run_sync = getattr(session, "run_sync", None)  # an AsyncSession, without importing SQLAlchemy's asyncio part
    if run_sync is not None:
        return await run_sync(lambda own: function(*args, session=own, **options))
    if session is not None:
        options["session"] = session
    return await asyncio.to_thread(function, *args, **options)


async def _client() -> JobClient:
    """That of this process; a thread makes it, for that reads files and imports modules."""
    made: JobClient | None = current_runtime().kept.get(CLIENT)
    return await asyncio.to_thread(get_job_client) if made is None else made


async def asend_job(
    event: str | TenantEvent,
    payload: Payload | None = None,
    *,
    session: AsyncSession | Session | None = None,
    **options: Any,
) -> RunHandle:
    """`send_job` for asyncio; `session` may be an AsyncSession on the psycopg driver.

    What is sent at the same time goes to PostgreSQL and to the broker together. When the task is cancelled that waits,
    the run is accepted as a whole or not at all.
    """
    if session is not None:
        handle: RunHandle = await _in_thread(send_job, event, payload, session=session, **options)
        return handle
    return await (await _client()).asend(event, payload, **options)


async def aschedule_job(event: str | TenantEvent, payload: Payload | None = None, **options: Any) -> RunHandle:
    """`schedule_job` for asyncio."""
    _require_time(options.get("delay"), options.get("run_at"))
    return await asend_job(event, payload, **options)


async def atrigger_and_wait(
    event: str | TenantEvent,
    payload: Payload | None = None,
    *,
    timeout: float = 30.0,  # noqa: ASYNC109 - a timeout is a result here, not a cancellation
    **options: Any,
) -> WaitResult:
    """`trigger_and_wait` for asyncio."""
    return await (await _client()).atrigger_and_wait(event, payload, timeout=timeout, **options)


async def asend_jobs(
    items: Iterable[SendItem | TenantEvent], *, session: AsyncSession | Session | None = None
) -> list[RunHandle]:
    """`send_jobs` for asyncio."""
    if session is not None:
        handles: list[RunHandle] = await _in_thread(send_jobs, items, session=session)
        return handles
    return await (await _client()).asend_batch(items)


async def asend_jobs_in_chunks(
    items: Iterable[SendItem | TenantEvent], *, chunk_size: int = 1_000
) -> AsyncIterator[SentItem]:
    """For asyncio, as `send_jobs_in_chunks`: `async for sent in ...`."""
    results = send_jobs_in_chunks(items, chunk_size=chunk_size)
    while batch := await asyncio.to_thread(lambda: list(islice(results, chunk_size))):
        for sent in batch:
            yield sent


async def aget_run(run_id: str) -> RunStatus:
    """`get_run` for asyncio."""
    return await asyncio.to_thread(get_run, run_id)


async def acancel_run(run_id: str) -> RunStatus:
    """`cancel_run` for asyncio."""
    return await asyncio.to_thread(cancel_run, run_id)


async def asignal_run(
    run_id: str,
    name: str,
    payload: object = None,
    *,
    key: str | None = None,
    session: AsyncSession | Session | None = None,
) -> bool:
    """`signal_run` for asyncio."""
    is_new: bool = await _in_thread(signal_run, run_id, name, payload, key=key, session=session)
    return is_new


async def areplay_run(run_id: str, *, from_step: str | None = None) -> RunHandle:
    """`replay_run` for asyncio."""
    return await asyncio.to_thread(replay_run, run_id, from_step=from_step)


async def aget_job_status(run_id: str) -> RunStatus:
    """The first name of `aget_run`, which new code should call."""
    return await aget_run(run_id)


async def acancel_job(run_id: str) -> RunStatus:
    """The first name of `acancel_run`, which new code should call."""
    return await acancel_run(run_id)


async def aretry_job(run_id: str) -> RunHandle:
    """The first name of `areplay_run`, which new code should call."""
    return await areplay_run(run_id)
