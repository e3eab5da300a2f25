"""Waiting for a run's end: looks at the record, further and further apart, and at once when a worker calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

from cgk_tasks.client.provider import JobProvider, WaitResult
from cgk_tasks.errors import InvalidOptionError, UnknownRunError
from cgk_tasks.runs.models import RunHandle, RunStatus
from cgk_tasks.tenancy.visibility import may_see

if TYPE_CHECKING:
    from cgk_tasks.broker.answers import Answer
    from cgk_tasks.runs.ended import Ended

_FIRST_LOOK_SECONDS: Final = 0.005
_APART: Final = 1.5
_FIRST_LOOK_BESIDE_SECONDS: Final = 0.02
_SLOWEST_LOOK_BESIDE_SECONDS: Final = 1.0
"""While an answer is expected: thousands may wait."""

Look = Callable[[str], RunStatus]


def check_timeout(timeout: float) -> None:
    if timeout < 0:
        raise InvalidOptionError("timeout", f"is negative ({timeout:g} s)")


@contextmanager
def answer_expected(provider: JobProvider) -> Iterator[Answer | None]:
    """What the provider says of the ends of runs that are sent within the block; None if it says nothing."""
    expected = getattr(provider, "answer_expected", None)
    if expected is None:
        yield None
        return
    with expected() as answer:
        yield answer


class Wait:
    """For one run. Ask `result` until it is there, and pause in between."""

    def __init__(
        self, handle: RunHandle, timeout: float, look: Look, answer: Answer | None, slowest_look_seconds: float
    ) -> None:
        self._handle, self._timeout, self._look, self._answer = handle, timeout, look, answer
        if answer is not None:
            answer.run_id = handle.id
        self._is_just_sent = answer is not None and answer.is_expected and handle.outcome == "accepted"
        self._give_up = time.monotonic() + timeout
        self._pause = _FIRST_LOOK_SECONDS if answer is None else _FIRST_LOOK_BESIDE_SECONDS
        self._slowest = slowest_look_seconds if answer is None else _SLOWEST_LOOK_BESIDE_SECONDS

    def result(self) -> WaitResult | None:
        """How the run ended, or that the time is over; None before."""
        return None if self._waits_first() else self._told() or self._seen()

    async def aresult(self) -> WaitResult | None:
        """The same for asyncio."""
        return None if self._waits_first() else self._told() or await asyncio.to_thread(self._seen)

    def _waits_first(self) -> bool:
        """Whether a first look would find what has just been sent: a worker is to call."""
        is_first, self._is_just_sent = self._is_just_sent, False
        return is_first

    def _told(self) -> WaitResult | None:
        """How the run ended, if that came with the answer."""
        end = None if self._answer is None else self._answer.end
        return _result_of(end) if end is not None and may_see(end.tenant_id) else None

    def _seen(self) -> WaitResult | None:
        run_id = self._handle.id
        if self._handle.outcome == "skipped" and not self._is_on_record():
            message = "A RateLimit of the event's job did not accept the send."
            return WaitResult(run_id, False, None, "SKIPPED", message)
        status = self._look(run_id)
        if status.is_closed:
            return _result_of(status)
        if time.monotonic() < self._give_up:
            return None
        message = f"The run is still {status.state} after {self._timeout:g} s."
        return WaitResult(run_id, False, None, "TIMEOUT", message, self._timeout, timed_out=True)

    def _is_on_record(self) -> bool:
        try:
            self._look(self._handle.id)
        except UnknownRunError:
            return False
        return True

    def pause(self) -> None:
        """Until the next look."""
        seconds = self._next_pause()
        if self._answer is None:
            time.sleep(seconds)
        else:
            self._answer.wait(seconds)

    async def apause(self, answered: asyncio.Event) -> None:
        """The same for asyncio. answered: set when the answer comes."""
        try:
            await asyncio.wait_for(answered.wait(), self._next_pause())
        except TimeoutError:
            return
        answered.clear()

    def _next_pause(self) -> float:
        pause, self._pause = self._pause, min(self._pause * _APART, self._slowest)
        return max(0.0, min(pause, self._give_up - time.monotonic()))


def answered_event(answer: Answer | None) -> asyncio.Event:
    """An event of this loop that is set when the answer comes."""
    event, loop = asyncio.Event(), asyncio.get_running_loop()
    if answer is not None:
        answer.when_it_comes(lambda: _in_loop(loop, event.set))
    return event


def _in_loop(loop: asyncio.AbstractEventLoop, act: Callable[[], Any]) -> None:
    with suppress(RuntimeError):  # it is closed, so nobody waits there any more
        loop.call_soon_threadsafe(act)


def _result_of(status: RunStatus | Ended) -> WaitResult:
    if status.state == "completed":
        return WaitResult(status.id, True, status.result)
    error = status.error or {}
    message = str(error.get("message") or f"The run ended as {status.state}.")
    if status.state == "unhandled":
        message = f"The workers have no job for {status.event}: check their CGK_JOB_MODULES."
    return WaitResult(status.id, False, None, status.error_code or status.state.upper(), message)
