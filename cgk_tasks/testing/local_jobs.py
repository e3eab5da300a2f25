"""Sends and runs in this process, for one test."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import TYPE_CHECKING, Self

from cgk_tasks.client import JobClient, reset_job_client, set_job_client
from cgk_tasks.client.local import LocalProvider
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.flow.accept import SendOptions
from cgk_tasks.runs.models import RunHandle, RunStatus

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
        """The events that were sent, by jobs too, in their order; without those that an idempotency key held back."""
        return [event for event, _run_id in self._provider.recorded]

    @property
    def runs(self) -> list[RunStatus]:
        """The run of each sent event as it stands now: state, result, errors, `run_at`."""
        return [self._provider.get_run_status(run_id) for _event, run_id in self._provider.recorded]

    def wait_idle(self, timeout: float = 10.0) -> list[RunStatus]:
        """Wait until every run that is due within `timeout` seconds has closed, retries included. Returns `runs`.

        Runs that are due later stay as they are. Raises TimeoutError that names the runs that are still open.
        """
        self._provider.wait_idle(timeout)
        return self.runs

    def __enter__(self) -> Self:
        self._before = set_job_client(self.client)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        reset_job_client()  # closes ours: waits for jobs that run now
        if self._before is not None:
            set_job_client(self._before)


class _Recording(LocalProvider):
    def __init__(self, *, concurrency: int) -> None:
        self.recorded: list[tuple[TenantEvent, str]] = []
        super().__init__(concurrency=concurrency)

    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        with self._changed:  # before the first of them runs, and may send another
            handles = super().send_batch(events, session)
            self.recorded += [
                (event, handle.id)
                for (event, _options), handle in zip(events, handles, strict=True)
                if not handle.deduplicated
            ]
            return handles

    def wait_idle(self, timeout: float) -> None:
        until = datetime.now(UTC) + timedelta(seconds=timeout)

        def expected() -> list[RunStatus]:
            open_runs = [run.status for run in self._runs.values() if not run.status.is_closed]
            return [run for run in open_runs if run.run_at is None or run.run_at <= until]

        with self._changed:
            if not self._changed.wait_for(lambda: not expected(), timeout):
                found = ", ".join(f"{run.event} {run.id} is {run.state}" for run in expected())
                raise TimeoutError(f"Not idle after {timeout:g} s: {found}")
