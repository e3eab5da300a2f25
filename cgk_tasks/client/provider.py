"""The interface of every provider: where `send_job` sends. `celery` is the real one, `local` runs in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from cgk_tasks.errors import CgkTasksError, IdempotencyConflictError, RunFailedError, WaitTimeoutError
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.flow.new_run import NO_OPTIONS, SendOptions
from cgk_tasks.jobs.types import Handler
from cgk_tasks.runs.models import NewRun, RunHandle, RunStatus

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class SendItem:
    """One element of `send_jobs`: an event by name with its payload, or a model alone, and options of its own."""

    event: str | TenantEvent
    payload: Mapping[str, Any] | TenantEvent | None = None
    options: SendOptions = NO_OPTIONS


Send = tuple[TenantEvent, SendOptions]
"""One that has been checked."""


@dataclass(frozen=True, slots=True)
class SentItem:
    """What became of one item of `send_jobs_in_chunks`: either a handle or an error. `position` counts from 0."""

    position: int
    handle: RunHandle | None = None
    error: CgkTasksError | None = None


@dataclass(frozen=True, slots=True)
class WaitResult:
    """What `trigger_and_wait` saw. `code`: TIMEOUT when the run was still open after `timeout_seconds`; SKIPPED when a
    RateLimit did not accept the send.
    """

    run_id: str
    success: bool
    data: Any = None
    code: str | None = None
    message: str | None = None
    timeout_seconds: float = 0.0
    timed_out: bool = False

    def unwrap(self) -> Any:
        """The result. Raises WaitTimeoutError or RunFailedError."""
        if self.timed_out:
            raise WaitTimeoutError(self.run_id, self.timeout_seconds)
        if not self.success:
            raise RunFailedError(self.run_id, self.code or "UNKNOWN_ERROR", self.message or "")
        return self.data


@dataclass(frozen=True, slots=True)
class Health:
    """Whether a provider can be reached now, how long that took, and if not, why (`error`) and what to do (`hint`)."""

    healthy: bool
    latency_seconds: float = 0.0
    error: str | None = None
    hint: str | None = None

    @classmethod
    def of(cls, problem: CgkTasksError) -> Health:
        """What an error says about the provider's health."""
        return cls(False, error=problem.text, hint=problem.hint)


def blame_item(exc: CgkTasksError, position: int) -> None:
    """Have the error say which item of the batch it is about."""
    exc.item = position
    exc.add_note(f"It was item {position} of the batch, counted from 0; nothing was sent.")


@contextmanager
def blaming_item(options: Sequence[SendOptions]) -> Iterator[None]:
    """A conflict of keys says which item of the batch, with these options, it is about."""
    try:
        yield
    except IdempotencyConflictError as exc:
        blame_item(exc, max(position for position, its in enumerate(options) if its.idempotency_key == exc.key))
        raise


def checked_runs(
    events: Sequence[tuple[TenantEvent, SendOptions]], check: Callable[[TenantEvent, SendOptions], NewRun]
) -> list[NewRun]:
    """Make a run of each event of a batch. An error says which of several it is about."""
    runs = []
    for position, (event, options) in enumerate(events):
        try:
            runs.append(check(event, options))
        except CgkTasksError as exc:
            if len(events) > 1:
                blame_item(exc, position)
            raise
    return runs


_SLOWEST_LOOK_SECONDS = 0.25


def slowest_look_seconds(provider: JobProvider) -> float:
    """How often `trigger_and_wait` asks for a run's status after the first few looks. Providers may say so
    themselves.
    """
    return float(getattr(provider, "slowest_look_seconds", _SLOWEST_LOOK_SECONDS))


class JobProvider(Protocol):
    """Everything a provider does. Runs have the same states and errors with each of them.

    One that has a method `send_each` gets the sends of a batch from an iterator, so that it need not keep all of them.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    def send(self, event: TenantEvent, options: SendOptions, session: Session | None = None) -> RunHandle:
        """Accept one run. Raises what is wrong with the options, and UnknownTenantError."""

    def send_batch(
        self, events: Sequence[tuple[TenantEvent, SendOptions]], session: Session | None = None
    ) -> list[RunHandle]:
        """Accept all or none."""

    def get_run_status(self, run_id: str) -> RunStatus:
        """The run as it stands. Raises UnknownRunError."""

    def cancel(self, run_id: str) -> RunStatus:
        """Cancel an open run; a running one is interrupted. Raises UnknownRunError, RunStateError if it is closed."""

    def signal(
        self, run_id: str, name: str, payload: str, key: str | None = None, session: Session | None = None
    ) -> bool:
        """Keep a signal, whose payload is JSON text, for an open run. False if the key was used before.

        Raises UnknownRunError, RunStateError if it is closed.
        """

    def retry(self, run_id: str) -> RunHandle:
        """Replay a closed run as a new one that names it. Raises UnknownRunError, RunStateError if it is open."""

    def replay_from(self, run_id: str, step: str) -> RunHandle:
        """The same for a workflow, with what it remembers of the steps before this one. Raises InvalidOptionError."""

    def register_handler(self, event: str, handler: Handler) -> None:
        """Register a job for an event in this process."""

    def is_configured(self) -> bool:
        """Whether the settings name everything that this provider needs."""

    def health_check(self) -> Health:
        """Whether sends and runs work now. Never raises."""

    def close(self) -> None:
        """Give back connections and threads."""


async def asend_batch(provider: JobProvider, events: Sequence[tuple[TenantEvent, SendOptions]]) -> list[RunHandle]:
    """`send_batch` for an event loop: the provider's own, if it has one, else in a thread."""
    own = getattr(provider, "asend_batch", None)
    if own is None:
        if len(events) == 1:
            return [await asyncio.to_thread(provider.send, *events[0])]
        return await asyncio.to_thread(provider.send_batch, events)
    handles: list[RunHandle] = await own(events)
    return handles
