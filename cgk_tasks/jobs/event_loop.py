"""One asyncio event loop for all `async def` jobs of a process, so that their clients and pools stay usable."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from cgk_tasks.runtime import Part

_STEP_SECONDS = 0.05
_FINALLY_SECONDS = 10.0


def _start() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="cgk-async-jobs", daemon=True).start()
    return loop


LOOP = Part(_start, close=lambda loop: loop.call_soon_threadsafe(loop.stop), of_settings=False)


def event_loop() -> asyncio.AbstractEventLoop:
    """The loop of this process, running in a thread of its own."""
    return LOOP.current()


def run_coroutine(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on the process's loop with the caller's context variables, and wait for its result.

    If the wait is interrupted (time limit, cancellation) the coroutine is cancelled and awaited first.
    """
    loop = event_loop()
    tasks: list[asyncio.Task[Any]] = []
    # No Future: an interruption amid one of its methods could leave it locked, and the loop would wait for it.
    ended: SimpleQueue[asyncio.Task[Any]] = SimpleQueue()
    context = contextvars.copy_context()

    def start() -> None:
        task = loop.create_task(coroutine, context=context)
        tasks.append(task)
        task.add_done_callback(end)

    def end(task: asyncio.Task[Any]) -> None:
        if not task.cancelled():
            task.exception()  # asyncio logs those that nobody has asked for
        ended.put(task)

    loop.call_soon_threadsafe(start)
    try:
        task = _first(ended)
    except BaseException:
        if not (tasks and tasks[0].done()):
            loop.call_soon_threadsafe(lambda: tasks and tasks[0].cancel())
            with suppress(Empty):  # a moment for its `finally` blocks
                ended.get(timeout=_FINALLY_SECONDS)
        raise
    return task.result()


def _first(ended: SimpleQueue[asyncio.Task[Any]]) -> asyncio.Task[Any]:
    if threading.current_thread() is threading.main_thread():
        return ended.get()  # which a signal interrupts
    # An error that is raised in another thread (time limit, cancellation) arrives between two steps of Python code, so
    # there must be some.
    while True:
        with suppress(Empty):
            return ended.get(timeout=_STEP_SECONDS)
