"""The same for a workflow that is a coroutine: its steps may be on at the same time.

A wait ends the leg only when no step is on any more. So `asyncio.gather` over steps and waits does all that it can do
now, and the run then waits for the first of what is left.
"""

from __future__ import annotations

import asyncio
import inspect
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, overload

from cgk_tasks.errors import LostRunError, RunCancelledError
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.context import P_co, RunOfWorkflow, aware, done, new_uuid
from cgk_tasks.workflows.leg import Call, Leg, sleep_seconds
from cgk_tasks.workflows.names import UNNAMED, check_name
from cgk_tasks.workflows.results import decoded, result_type
from cgk_tasks.workflows.scope import refuse_in_step, step_scope

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.jobs.retry import RetryConfig
    from cgk_tasks.runs.steps import Memo

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class AsyncWorkflowContext(RunOfWorkflow[P_co]):
    """A workflow's run, as its coroutine sees it: the methods of `WorkflowContext`, awaited.

        @define_workflow("onboard", event="customer.created")
        async def onboard(wf: AsyncWorkflowContext[CustomerCreated]) -> None:
            crm, shop = await asyncio.gather(wf.step("crm", fetch_crm), wf.step("shop", fetch_shop))
            await wf.sleep("trial", timedelta(days=14))

    A step's function may be a coroutine, or a plain function, which then runs in a thread. What is awaited outside of
    steps may be cut off when the leg ends.
    """

    def __init__(self, ctx: JobContext[P_co], leg: Leg, version: int) -> None:
        super().__init__(ctx, leg, version)
        self._on = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._tasks: set[asyncio.Task[Any]] = set()

    @overload
    async def step(
        self,
        name: str,
        function: Callable[[*Ts], Awaitable[T]],
        /,
        *args: *Ts,
        retry: RetryConfig | None = None,
    ) -> T: ...
    @overload
    async def step(
        self, name: str, function: Callable[[*Ts], T], /, *args: *Ts, retry: RetryConfig | None = None
    ) -> T: ...
    async def step(
        self, name: str, function: Callable[[*Ts], Any], /, *args: *Ts, retry: RetryConfig | None = None
    ) -> Any:
        """Call the function once, or await it, and keep what it returns. As `WorkflowContext.step`."""
        check_name(name)
        return await self._step(name, function, args, retry)

    async def _step(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...] = (), retry: RetryConfig | None = None
    ) -> Any:
        refuse_in_step(name)
        self._known_task()
        with self._leg.call(name, "step") as call:
            kind = result_type(function)
            if call.memo is not None and call.memo.is_over:
                return self._value(call.memo, kind)
            memo = None if self._leg.is_put_off(call) else await self._do(call, kind, function, args, retry)
            if memo is None:
                return await self._park()
            return self._value(memo, kind)

    async def _do(
        self, call: Call, kind: Any, function: Callable[..., Any], args: tuple[Any, ...], retry: RetryConfig | None
    ) -> Memo | None:
        """The step as it ended; None if it is tried again later."""
        begun = time.perf_counter()
        kept: Memo | None = None
        with self._step_is_on():
            with step_scope(call.name, self.tenant) as scope:
                try:
                    memo = done(call, await _called(function, args), kind, begun)
                    if scope.session is not None:
                        kept = await self._keep(call, memo, scope.session)
                except (LostRunError, RunCancelledError):
                    raise
                except Exception as exc:
                    scope.close()
                    failed = self._leg.failed(call, exc, retry, time.perf_counter() - begun)
                    if failed is None:
                        return None
                    raise self._leg.error_of(await self._keep(call, failed)) from exc
            return kept or await self._keep(call, memo)

    async def _keep(self, call: Call, memo: Memo, session: Any = None) -> Memo:
        return await asyncio.to_thread(self._leg.keep, call, memo, session)

    def _value(self, memo: Memo, kind: Any) -> Any:
        if memo.state == "failed":
            raise self._leg.error_of(memo)
        if memo.state == "timed_out":
            return None
        return decoded(memo.result or "null", kind, memo.name)

    async def sleep(self, name: str, duration: float | timedelta) -> None:
        """Go on after so many seconds, or a timedelta; until then the run holds no worker."""
        await self._sleep(name, sleep_seconds(name, duration))

    async def sleep_until(self, name: str, moment: datetime) -> None:
        """Go on at a time, which must have a time zone."""
        await self._sleep(name, aware(name, moment))

    async def _sleep(self, name: str, until: datetime | float) -> None:
        check_name(name)
        refuse_in_step(name)
        self._known_task()
        with self._leg.call(name, "sleep") as call:
            if not self._leg.is_slept(call, until):
                await self._park()

    # timeout: of the wait, over all legs, and not of the call
    @overload
    async def wait_for_signal(
        self,
        name: str,
        /,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
    ) -> Any: ...
    @overload
    async def wait_for_signal(
        self,
        name: str,
        kind: type[T],
        /,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
    ) -> T | None: ...
    async def wait_for_signal(
        self,
        name: str,
        kind: Any = Any,
        /,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
    ) -> Any:
        """Go on when somebody has called `signal_run` with this name. As `WorkflowContext.wait_for_signal`."""
        check_name(name)
        seconds = None if timeout is None else sleep_seconds(name, timeout)
        refuse_in_step(name)
        self._known_task()
        with self._leg.call(name, "signal") as call:
            with self._step_is_on():
                memo = await asyncio.to_thread(self._leg.taken, call, name, seconds, f"signal {name}")
            return self._value(memo, kind) if memo is not None else await self._park()

    async def now(self) -> datetime:
        """The time, as the leg has it that asks first."""
        moment: datetime = await self._step(UNNAMED["now"], known_now)
        return moment

    async def uuid(self) -> uuid.UUID:
        """A random UUID, the same in all legs."""
        made: uuid.UUID = await self._step(UNNAMED["uuid"], new_uuid)
        return made

    # ---- the end of a leg

    @contextmanager
    def _step_is_on(self) -> Iterator[None]:
        self._on += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._on -= 1
            if not self._on:
                self._quiet.set()

    async def _park(self) -> Any:
        """Wait until no step is on, then end the leg. What goes on after a step may begin another one."""
        while True:
            await self._quiet.wait()
            await asyncio.sleep(0)
            if self._quiet.is_set():
                raise self._leg.suspended()

    def _known_task(self) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)

    async def close(self) -> None:
        """End what the function has left behind: branches that wait, or that nobody awaits any more."""
        left = [task for task in self._tasks if task is not asyncio.current_task() and not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


async def _called(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if inspect.iscoroutinefunction(function):
        return await function(*args)
    value = await asyncio.to_thread(function, *args)
    return await value if inspect.isawaitable(value) else value
