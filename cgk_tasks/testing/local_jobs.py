"""Sends and runs in this process, for one test."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from cgk_tasks.client import JobClient, reset_job_client, set_job_client
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.client.provider import checked_runs
from cgk_tasks.config import get_settings
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.registry import parse_event
from cgk_tasks.flow.new_run import SendOptions
from cgk_tasks.runs.models import NewRun, RunHandle, RunStatus
from cgk_tasks.sql.clock import CLOCK, known_now
from cgk_tasks.testing.session_sends import SessionSends

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


class LocalJobs:
    """While the block lasts, `send_job` and the others send to this process, and jobs run in it.

        with LocalJobs() as jobs:
            place_order(...)
            jobs.wait_idle()
        assert jobs.sent == [OrderCreated(...)]

    Jobs are those that `@define_job` registered: import their modules. Validation, states, retries and idempotency
    are those of the real thing. concurrency: how many run at a time; 1 makes their order certain.
    """

    def __init__(self, *, concurrency: int = 5) -> None:
        self._provider = _Recording(concurrency=concurrency)
        self.client = JobClient(self._provider)
        self._before: JobClient | None = None

    @property
    def sent(self) -> list[TenantEvent]:
        """The events that were sent, by jobs too, in their order; without those that an idempotency key held back, or
        that a rule of their job skipped.
        """
        return [event for event, _run_id in self._provider.recorded]

    @property
    def runs(self) -> list[RunStatus]:
        """The run of each sent event as it stands now: state, result, errors, `run_at`."""
        return [self._provider.get_run_status(run_id) for _event, run_id in self._provider.recorded]

    def send(
        self,
        event: str | TenantEvent,
        payload: Mapping[str, Any] | None = None,
        *,
        attempt: int = 1,
        cursor: Any = None,
        scheduled_for: datetime | None = None,
        **options: Any,
    ) -> RunHandle:
        """`send_job`, with what the job is told: which attempt it is, where to go on, for which tick of a schedule.

        attempt, cursor: for events with one job. options: those of `send_job`.
        """
        model = event if isinstance(event, TenantEvent) else parse_event(event, payload or {})
        return self._provider.send_told(model, SendOptions(**options), attempt, cursor, scheduled_for)

    def wait_idle(self, timeout: float = 10.0) -> list[RunStatus]:
        """Wait until every run that is due within `timeout` seconds has closed, retries included. Returns `runs`.

        Runs that are due later stay as they are. Raises TimeoutError that names the runs that are still open.
        """
        self._provider.wait_idle(timeout)
        return self.runs

    def advance(self, duration: timedelta, timeout: float = 10.0) -> list[RunStatus]:
        """Let so much time pass at once: what is due meanwhile runs, each at its time, as `wf.now()` and the records
        have it. Returns `runs`.

            jobs.advance(timedelta(days=365))

        Raises TimeoutError when that takes longer than `timeout` real seconds.
        """
        self._provider.advance(duration, timeout)
        return self.runs

    def __enter__(self) -> Self:
        self._before = set_job_client(self.client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reset_job_client()  # closes ours: waits for jobs that run now
        CLOCK.current().ahead = timedelta()
        if self._before is not None:
            set_job_client(self._before)


_Send = tuple[TenantEvent, NewRun]

_LOOK_SECONDS: Final = 0.002


class _Recording(LocalProvider):
    def __init__(self, *, concurrency: int) -> None:
        self.recorded: list[tuple[TenantEvent, str]] = []
        super().__init__(concurrency=concurrency)

    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        runs = checked_runs(events, self._checked)
        sends = [(event, run) for (event, _options), run in zip(events, runs, strict=True)]
        if session is None:
            return self._take(sends)
        waiting: SessionSends[_Send] = SessionSends.of(session, self._take)
        with self._changed:
            handles = self._expected([*waiting.waiting, *sends])[-len(sends) :] if sends else []
        waiting.add(session, sends)
        return handles

    def send_told(
        self, event: TenantEvent, options: SendOptions, attempt: int, cursor: Any, at: datetime | None
    ) -> RunHandle:
        """Send an event whose run begins with a later attempt, a cursor, or a schedule's time."""
        with self._changed:  # it does not run before it has them
            handle = self.send_batch([(event, options)])[0]
            if handle.outcome == "accepted":
                run = self._runs[handle.id]
                run.cursor = cursor
                run.status = replace(run.status, attempt=attempt - 1, scheduled_for=at)
            return handle

    def _take(self, sends: Sequence[_Send]) -> list[RunHandle]:
        with self._changed:  # before the first of them runs, and may send another
            handles = self._accept([run for _event, run in sends])
            self.recorded += [
                (event, handle.id)
                for (event, _run), handle in zip(sends, handles, strict=True)
                if handle.outcome in {"accepted", "merged"}
            ]
            return handles

    def _expected(self, sends: Sequence[_Send]) -> list[RunHandle]:
        """The handles that these will have; nothing is remembered. Raises IdempotencyConflictError."""
        runs = [run for _event, run in sends]
        earlier = self._keys.match(runs, known_now(), get_settings().idempotency_seconds)
        self._keys.forget([run for run in runs if run.id not in earlier])
        return [RunHandle(earlier.get(run.id, run.id), deduplicated=run.id in earlier) for run in runs]

    def wait_idle(self, timeout: float) -> None:
        until = known_now() + timedelta(seconds=timeout)

        def expected() -> list[RunStatus]:
            open_runs = [run.status for run in self._runs.values() if not run.status.is_closed]
            return [run for run in open_runs if run.run_at is None or run.run_at <= until]

        with self._changed:
            if not self._changed.wait_for(lambda: not expected(), timeout):
                found = ", ".join(f"{run.event} {run.id} is {run.state}" for run in expected())
                raise TimeoutError(f"Not idle after {timeout:g} s: {found}")

    def advance(self, duration: timedelta, timeout: float) -> None:
        clock, give_up, until = CLOCK.current(), time.monotonic() + timeout, known_now() + duration
        with self._changed:
            while True:
                while not self._rests():
                    if time.monotonic() > give_up:
                        raise TimeoutError(f"What is due within {duration} does not end in {timeout:g} s.")
                    self._changed.wait(_LOOK_SECONDS)  # that a time was looked at in vain is told nobody
                left = (until - known_now()).total_seconds()
                following = self._queue.seconds_to_next(known_now())
                clock.ahead += timedelta(seconds=max(left if following is None else min(left, following), 0.0))
                if following is None or following > left:
                    return
                self._changed.notify_all()

    def _rests(self) -> bool:
        """Whether nothing is on, and nothing is due."""
        now = known_now()
        wait = self._queue.seconds_to_next(now)
        return (wait is None or wait > 0) and not any(
            status.state == "pending" or (status.state == "running" and not run.has_open_children)
            for run in self._runs.values()
            if not (status := run.status).is_closed
        )
