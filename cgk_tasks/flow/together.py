"""Sends of an event loop: what is sent while others are on their way goes together with what comes meanwhile.

One thread then makes one insert, one flush and one push of all of it, by the same `accept` as everywhere. What is sent
alone waits for nobody. Each send is prepared in its sender's context, and has an error of its own.

The work belongs to no sender's task. One that is cancelled leaves a run that is accepted as a whole, or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from functools import partial
from typing import Final, NamedTuple
from weakref import WeakKeyDictionary

from cgk_tasks.broker.envelope import answer_to
from cgk_tasks.flow.accept import accept, current_unit
from cgk_tasks.flow.quota import are_limited
from cgk_tasks.runs.models import NewRun, RunHandle
from cgk_tasks.runtime import Part, Runtime, current_runtime
from cgk_tasks.sql.postgres import is_away

_AT_ONCE: Final = 2
"""Threads at work. One that waits for the disk leaves room for another."""
_MOST_SENDS: Final = 500


class Alone(NamedTuple):
    """Runs that are accepted apart from others: by keys, rules or quotas they might wait for somebody."""

    runs: Sequence[NewRun]


Outcome = list[RunHandle] | Alone | Exception


class _Send(NamedTuple):
    prepare: Callable[[], Sequence[NewRun]]
    context: Context
    outcome: asyncio.Future[list[RunHandle] | Alone]


def may_go_together() -> bool:
    """Whether sends of here may: not those of an open transaction, nor those whose message names who waits for them."""
    return answer_to.get() is None and current_unit() is None


class LoopSends:
    """Of one event loop, on whose thread all of this is called."""

    def __init__(self) -> None:
        self._runtime = current_runtime()
        self._waiting: deque[_Send] = deque()
        self._at_work = 0

    async def accept(self, prepare: Callable[[], Sequence[NewRun]]) -> list[RunHandle] | Alone:
        """Accept the runs that `prepare` makes, all or none; what it raises is raised here. Raises StoreError.

        prepare: called in a thread, in the context of here. The answer `Alone` gives the runs back, to `accept` them.
        """
        send = _Send(prepare, copy_context(), asyncio.get_running_loop().create_future())
        self._waiting.append(send)
        if self._at_work < _AT_ONCE:
            self._begin()
        return await send.outcome

    def _begin(self) -> None:
        sends = self._next()
        if not sends:
            return
        self._at_work += 1
        loop = asyncio.get_running_loop()
        try:
            work = loop.run_in_executor(None, accept_together, self._runtime, sends)
        except RuntimeError as exc:  # no thread can be started, or the loop's are ended already
            work = loop.create_future()
            work.set_exception(exc)
        work.add_done_callback(partial(self._ended, sends))

    def _next(self) -> list[_Send]:
        """Those whose turn it is, without those whose senders were cancelled."""
        sends: list[_Send] = []
        while self._waiting and len(sends) < _MOST_SENDS:
            send = self._waiting.popleft()
            if not send.outcome.done():
                sends.append(send)
        return sends

    def _ended(self, sends: Sequence[_Send], work: asyncio.Future[list[Outcome]]) -> None:
        self._at_work -= 1
        self._begin()
        problem = asyncio.CancelledError() if work.cancelled() else work.exception()
        outcomes: Sequence[Outcome | BaseException] = [problem] * len(sends) if problem else work.result()
        for send, outcome in zip(sends, outcomes, strict=True):
            if send.outcome.done():
                continue  # the sender was cancelled meanwhile
            if isinstance(outcome, BaseException):
                send.outcome.set_exception(outcome)
            else:
                send.outcome.set_result(outcome)


def accept_together(runtime: Runtime, sends: Sequence[_Send]) -> list[Outcome]:
    """What becomes of these sends, each apart."""
    with runtime.active():
        prepared = [_prepared(send) for send in sends]
        plain = [runs for runs in prepared if isinstance(runs, list)]
        together = _accepted([run for runs in plain for run in runs]) if len(plain) > 1 else None
        outcomes: list[Outcome] = []
        for send, runs in zip(sends, prepared, strict=True):
            if not isinstance(runs, list):
                outcomes.append(runs)
            elif together is None:  # it is alone, or one of them was refused: whose it is finds out
                outcomes.append(send.context.run(_accepted_alone, runs))
            elif isinstance(together, Exception):
                outcomes.append(together)
            else:
                outcomes.append([RunHandle(run.id) for run in runs])
        return outcomes


def _prepared(send: _Send) -> list[NewRun] | Alone | Exception:
    try:
        runs = list(send.context.run(send.prepare))
        if any(run.is_ruled or run.idempotency_key is not None for run in runs) or are_limited(runs):
            return Alone(runs)
    except Exception as exc:  # noqa: BLE001 - the sender is told
        return exc
    return runs


def _accepted(runs: Sequence[NewRun]) -> Exception | bool | None:
    """True if PostgreSQL has taken all of them; None if it refused one, and so all. The error if it is away."""
    try:
        accept(runs)
    except Exception as exc:  # noqa: BLE001 - the senders are told
        return exc if exc.__cause__ is not None and is_away(exc.__cause__) else None
    return True


def _accepted_alone(runs: Sequence[NewRun]) -> list[RunHandle] | Exception:
    try:
        return accept(runs)
    except Exception as exc:  # noqa: BLE001 - the sender is told
        return exc


_SENDS: Final[Part[WeakKeyDictionary[asyncio.AbstractEventLoop, LoopSends]]] = Part(WeakKeyDictionary)


def loop_sends() -> LoopSends:
    """Those of the running loop."""
    sends, loop = _SENDS.current(), asyncio.get_running_loop()
    found = sends.get(loop)
    if found is None:
        found = sends[loop] = LoopSends()
    return found
