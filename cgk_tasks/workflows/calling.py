"""How a workflow's function is called for one leg, and what ends that."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cgk_tasks.jobs.event_loop import run_coroutine
from cgk_tasks.workflows.async_context import AsyncWorkflowContext
from cgk_tasks.workflows.async_way import AsyncWay
from cgk_tasks.workflows.context import WorkflowContext
from cgk_tasks.workflows.doing import finish
from cgk_tasks.workflows.suspension import WorkflowStopped

if TYPE_CHECKING:
    from cgk_tasks.jobs.context import JobContext
    from cgk_tasks.workflows.leg import Leg


def called(function: Callable[..., Any], ctx: JobContext[Any], leg: Leg, version: int) -> Any:
    """What the function returns. What it makes of the exception that has ended the leg does not count.

    A run that is undone ends with WorkflowUndone, whatever its function does, once that has come to the end of what is
    on record, and so has said what there is to undo. What keeps it from that is an error as any other.
    """
    try:
        if inspect.iscoroutinefunction(function):
            return run_coroutine(_awaited(function, ctx, leg, version))
        wf: WorkflowContext[Any] = WorkflowContext(ctx, leg, version)
        if leg.undo is None:
            return function(wf)
        try:
            function(wf)
        except (Exception, WorkflowStopped):
            if leg.is_replaying:
                raise
        return finish(wf.undo(leg.undo))
    except (Exception, BaseExceptionGroup):
        leg.check_goes_on()
        raise


async def _awaited(function: Callable[..., Any], ctx: JobContext[Any], leg: Leg, version: int) -> Any:
    way = AsyncWay()
    wf: AsyncWorkflowContext[Any] = AsyncWorkflowContext(ctx, leg, version, way)
    main = asyncio.create_task(function(wf))
    all_wait = asyncio.create_task(way.until_all_wait())
    try:
        await asyncio.wait({main, all_wait}, return_when=asyncio.FIRST_COMPLETED)
        if leg.undo is not None and not leg.waits:
            await way.until_quiet()
            if main.done() and leg.is_replaying:
                main.result()
            await wf.undo(leg.undo)
        if not main.done():
            leg.check_unasked()
            raise leg.suspended()
        return main.result()
    finally:
        await way.close(main, all_wait)
