"""The context of a workflow that is a coroutine: the same methods, awaited."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, TypeVarTuple, overload

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.jobs.step_scope import refuse_in_step
from cgk_tasks.sql.clock import known_now
from cgk_tasks.workflows.async_way import AsyncWay
from cgk_tasks.workflows.calls import Call, Compensation
from cgk_tasks.workflows.children import Child, OnFailure, checked_policy, child
from cgk_tasks.workflows.durations import aware, sleep_seconds, timeout_seconds
from cgk_tasks.workflows.effects import Reconciled
from cgk_tasks.workflows.events import event_of, key_of, name_of
from cgk_tasks.workflows.leg import Leg
from cgk_tasks.workflows.names import UNNAMED, check_name
from cgk_tasks.workflows.results import ends_of, result_type
from cgk_tasks.workflows.run import E, P_co, RunOfWorkflow, new_uuid
from cgk_tasks.workflows.signal_urls import check_settings, new_issue, valid_seconds
from cgk_tasks.workflows.sources import First, Source, checked, first_of, mails_and_timers
from cgk_tasks.workflows.suspension import WorkflowStopped

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.jobs.retry import RetryConfig
    from cgk_tasks.runs.steps import Memo, StepKind

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

    def __init__(self, ctx: JobContext[P_co], leg: Leg, version: int, way: AsyncWay) -> None:
        super().__init__(ctx, leg, version, way)
        self._way = way

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
        async with self._call(name, "step") as call:
            kind = result_type(function)
            return await self._ended(await self._doing.step(call, kind, function, args, retry), kind)

    @overload
    async def effect(
        self,
        name: str,
        function: Callable[[str, *Ts], Awaitable[T]],
        /,
        *args: *Ts,
        reconcile: Callable[[str], Awaitable[T | Reconciled]] | None = None,
        retry: RetryConfig | None = None,
    ) -> T: ...
    @overload
    async def effect(
        self,
        name: str,
        function: Callable[[str, *Ts], T],
        /,
        *args: *Ts,
        reconcile: Callable[[str], T | Reconciled] | None = None,
        retry: RetryConfig | None = None,
    ) -> T: ...
    async def effect(
        self,
        name: str,
        function: Callable[[str, *Ts], Any],
        /,
        *args: *Ts,
        reconcile: Callable[[str], Any] | None = None,
        retry: RetryConfig | None = None,
    ) -> Any:
        """A step for what must not happen twice elsewhere. As `WorkflowContext.effect`."""
        check_name(name)
        async with self._call(name, "effect") as call:
            kind = result_type(function)
            return await self._ended(await self._doing.effect(call, kind, function, args, reconcile, retry), kind)

    async def compensate(
        self, name: str, function: Callable[[*Ts], object], /, *args: *Ts, retry: RetryConfig | None = None
    ) -> None:
        """Say what undoes what was done, with a coroutine or a plain function. As `WorkflowContext.compensate`."""
        check_name(name)
        self._go_on(name)
        with self._way.is_on():
            await self._way.write(self._leg.compensate, Compensation(name, function, args, retry))

    async def sleep(self, name: str, duration: float | timedelta) -> None:
        """Go on after so many seconds, or a timedelta; until then the run holds no worker."""
        await self._sleep(name, sleep_seconds(name, duration))

    async def sleep_until(self, name: str, moment: datetime) -> None:
        """Go on at a time, which must have a time zone."""
        await self._sleep(name, aware(name, moment))

    async def _sleep(self, name: str, until: datetime | float) -> None:
        check_name(name)
        async with self._call(name, "sleep") as call:
            if not self._waits.is_slept(call, until):
                await self._way.wait()

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
        seconds = timeout_seconds(name, timeout)
        async with self._call(name, "signal") as call:
            with self._way.is_on():
                memo = await self._way.write(self._waits.taken, call, name, seconds, f"signal {name}")
            return await self._ended(memo, kind)

    @overload
    async def wait_for_event(
        self,
        event: type[E],
        /,
        *,
        match: object,
        field: str | None = None,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
    ) -> E | None: ...
    @overload
    async def wait_for_event(
        self,
        event: str,
        /,
        *,
        match: object,
        field: str | None = None,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
    ) -> Any: ...
    async def wait_for_event(
        self,
        event: str | type[TenantEvent],
        /,
        *,
        match: object,
        field: str | None = None,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
    ) -> Any:
        """Go on when the event is sent for this tenant. As `WorkflowContext.wait_for_event`."""
        name = name_of(event)
        mail = key_of(self._leg.waits_for, name, field, match).mail
        seconds = timeout_seconds(name, timeout)
        async with self._call(name, "event") as call:
            with self._way.is_on():
                memo = await self._way.write(self._waits.taken, call, mail, seconds, f"event {name}")
            if memo is None:
                await self._way.wait()
            return event_of(memo)

    async def wait_any(self, name: str, /, **sources: Source) -> First:
        """Go on when the first of several has come, and say which. As `WorkflowContext.wait_any`."""
        wanted = checked(name, sources)
        async with self._call(name, "any") as call:
            with self._way.is_on():
                memo = await self._way.write(self._waits.first, call, *mails_and_timers(wanted))
            if memo is None:
                await self._way.wait()
            return first_of(memo, wanted)

    async def invoke(
        self,
        name: str,
        event: str | TenantEvent,
        payload: Mapping[str, Any] | None = None,
        /,
        *,
        timeout: float | timedelta | None = None,  # noqa: ASYNC109
        **options: Any,
    ) -> Any:
        """Send an event as a child run, which begins when the leg ends. As `WorkflowContext.invoke`."""
        check_name(name)
        wanted, seconds = [child(event, payload, options)], timeout_seconds(name, timeout)
        async with self._call(name, "invoke") as call:
            with self._way.is_on():
                memo = await self._way.write(self._children.ended, call, wanted, "fail", seconds)
            return await self._ended(memo, Any)

    async def gather(self, name: str, children: Sequence[Child], /, *, on_failure: OnFailure = "fail") -> list[Any]:
        """Several child runs, which begin when the leg ends. As `WorkflowContext.gather`."""
        check_name(name)
        policy = checked_policy(name, on_failure)
        async with self._call(name, "gather") as call:
            with self._way.is_on():
                memo = await self._way.write(self._children.ended, call, children, policy)
            return ends_of(name, await self._ended(memo, Any))

    async def continue_as_new(self, payload: Mapping[str, Any] | TenantEvent) -> NoReturn:
        """End this run, and begin a new one with this payload. As `WorkflowContext.continue_as_new`."""
        self._go_on("continue_as_new")
        self._leg.check_all_asked()
        raise self._continued(payload)

    async def now(self) -> datetime:
        """The time, as the leg has it that asks first."""
        moment: datetime = await self._step(UNNAMED["now"], known_now)
        return moment

    async def uuid(self) -> uuid.UUID:
        """A random UUID, the same in all legs."""
        made: uuid.UUID = await self._step(UNNAMED["uuid"], new_uuid)
        return made

    async def signal_url(
        self, name: str, /, *, valid: float | timedelta = timedelta(days=3), payload: object = True
    ) -> str:
        """An address that a person opens to send this run a signal, once. As `WorkflowContext.signal_url`."""
        check_name(name)
        check_settings()
        seconds = valid_seconds(valid, payload)
        return self._signal_url(await self._step(UNNAMED["signal_url"], new_issue, (seconds,)), name, payload)

    @asynccontextmanager
    async def _call(self, name: str, kind: StepKind) -> AsyncIterator[Call]:
        """As `Leg.call`. A branch of a run that is undone is held where it would go beyond what is on record."""
        self._go_on(name)
        try:
            with self._leg.call(name, kind) as call:
                yield call
        except WorkflowStopped:
            await self._way.wait()

    async def _ended(self, memo: Memo | None, kind: Any) -> Any:
        """What a step gives that is over; else the leg ends."""
        if memo is None:
            await self._way.wait()
        if memo.state == "failed" and self._leg.undo is not None:
            await self._way.until_quiet()  # all branches say first what there is to undo
        return self._value(memo, kind)

    def _go_on(self, name: str) -> None:
        refuse_in_step(name)
        self._leg.check_goes_on()
        self._way.note_task()
