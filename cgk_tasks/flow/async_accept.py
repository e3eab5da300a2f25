"""Accepting runs on an event loop: the same statements as in `accept`, and the loop goes on while PostgreSQL answers.

What is sent while an insert is on its way goes with the next one: one statement, one flush and one push for all of it.
What is sent alone waits for nobody. Each send has an error of its own all the same.

The insert belongs to no sender's task. One that is cancelled leaves a run that is accepted as a whole, or not at all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Sequence
from contextvars import Context, copy_context
from typing import Any, Final, NamedTuple

import psycopg

from cgk_tasks.broker.envelope import answer_to
from cgk_tasks.flow.accept import publish, publish_one
from cgk_tasks.flow.awaited_events import AWAITED
from cgk_tasks.flow.lanes import may_wait, placed
from cgk_tasks.flow.listeners import LISTENERS
from cgk_tasks.flow.quota import are_limited
from cgk_tasks.runs import insertion
from cgk_tasks.runs.models import NewRun, RunHandle
from cgk_tasks.runtime import Part, current_runtime
from cgk_tasks.sql import postgres
from cgk_tasks.sql.async_pool import AsyncFlushing, aretry_conflicts, async_autocommit
from cgk_tasks.sql.loops import PerLoop

_AT_ONCE: Final = 2
"""Inserts on their way. One that waits for the disk leaves room for another."""
_MOST_RUNS: Final = 500


def are_plain(runs: Sequence[NewRun]) -> bool:
    """Whether an insert is all that these runs take. Others are accepted by `accept`, in a thread."""
    return not (
        any(run.is_ruled or run.idempotency_key or run.replay_of is not None for run in runs)
        or AWAITED.current().among(runs)
        or are_limited(runs)
    )


class _Send(NamedTuple):
    """Runs that are accepted all or none, and the future in which their sender waits."""

    runs: Sequence[NewRun]
    accepted: asyncio.Future[None]

    def settle(self, problem: Exception | None = None) -> None:
        """Tell the sender, unless it has been cancelled meanwhile."""
        if self.accepted.done():
            return
        if problem is None:
            self.accepted.set_result(None)
        elif isinstance(problem, psycopg.Error):
            error = postgres.explain(problem)
            error.__cause__ = problem
            self.accepted.set_exception(error)
        else:
            self.accepted.set_exception(problem)


class AsyncSends:
    """Of one loop."""

    def __init__(self) -> None:
        self._runtime = current_runtime()
        self._waiting: deque[_Send] = deque()
        self._takers = 0
        self._tasks: set[asyncio.Task[None]] = set()
        """Kept here, since a loop forgets its tasks."""

    async def accept(self, runs: Sequence[NewRun]) -> list[RunHandle]:
        """Insert plain runs, all or none, and dispatch them. Raises StoreError."""
        send = _Send(runs, asyncio.get_running_loop().create_future())
        if answer_to.get() is None:
            self._waiting.append(send)
            if self._takers < _AT_ONCE:
                self._takers += 1
                self._begin(self._insert_waiting(), Context())  # of no sender: nobody's tenant, nobody's trace
        else:  # its message says whom to call, so it travels alone
            self._begin(self._insert([send]), copy_context())
        await send.accepted
        return [RunHandle(run.id) for run in runs]

    def _begin(self, work: Coroutine[Any, Any, None], context: Context) -> None:
        task = asyncio.get_running_loop().create_task(work, context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _insert_waiting(self) -> None:
        with self._runtime.active():
            try:
                while sends := self._take():
                    await self._insert(sends)
            except asyncio.CancelledError:  # the loop ends
                for send in self._waiting:
                    send.accepted.cancel()
                raise
            finally:
                self._takers -= 1  # before anybody else can send, and rely on this one

    def _take(self) -> list[_Send]:
        """Those whose turn it is, without those whose senders have been cancelled."""
        taken: list[_Send] = []
        room = _MOST_RUNS
        while self._waiting and (not taken or len(self._waiting[0].runs) <= room):
            send = self._waiting.popleft()
            if not send.accepted.done():
                taken.append(send)
                room -= len(send.runs)
        return taken

    async def _insert(self, sends: Sequence[_Send]) -> None:
        runs = [run for send in sends for run in send.runs]
        try:
            await aretry_conflicts(lambda: _accepted(runs))
        except asyncio.CancelledError:
            for send in sends:  # the loop ends
                send.accepted.cancel()
            raise
        except Exception as exc:  # noqa: BLE001 - whatever it is, the senders are told
            if len(sends) > 1 and not postgres.is_away(exc):
                for send in sends:  # one of them is refused, and is told so alone
                    await self._insert([send])
            else:
                for send in sends:
                    send.settle(exc)
        else:
            for send in sends:
                send.settle()


async def _accepted(runs: Sequence[NewRun]) -> None:
    """Insert and publish, all or none. Raises psycopg.Error."""
    if may_wait(runs):
        runs = await asyncio.to_thread(placed, runs)
    if len(runs) == 1:
        async with async_autocommit() as connection:
            lane_status = await insertion.ainsert_unflushed(connection, runs[0])
            async with AsyncFlushing(connection):
                await asyncio.to_thread(_publish_alone, runs[0], lane_status)
        return
    async with async_autocommit() as connection:
        await insertion.ainsert_many(connection, runs)
    await asyncio.to_thread(_publish, runs)


def _publish_alone(run: NewRun, lane_status: str | None) -> None:
    publish_one(run, lane_status)
    LISTENERS.current().warn_of_unserved([run])


def _publish(runs: Sequence[NewRun]) -> None:
    publish(runs, are_placed=True)
    LISTENERS.current().warn_of_unserved(runs)


ASYNC_SENDS: Final = Part(lambda: PerLoop(AsyncSends))
