"""One asyncio event loop for all `async def` jobs of a process, so that their clients and pools stay usable."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Coroutine
from concurrent.futures import Future, wait
from typing import Any

from cgk_tasks.runtime import Part

_STEP_SECONDS = 0.05


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
    done: Future[Any] = Future()
    tasks: list[asyncio.Task[Any]] = []
    context = contextvars.copy_context()

    def start() -> None:
        task = loop.create_task(coroutine, context=context)
        tasks.append(task)
        task.add_done_callback(lambda ended: _transfer(ended, done))

    loop.call_soon_threadsafe(start)
    try:
        return _result(done)
    except BaseException:
        if not done.done():
            loop.call_soon_threadsafe(lambda: tasks and tasks[0].cancel())
            _wait(done)
        raise


def _result(done: Future[Any]) -> Any:
    if threading.current_thread() is not threading.main_thread():
        # A signal interrupts the main thread's wait. An error that is raised in another thread (time limit,
        # cancellation) arrives between two steps of Python code, so there must be some.
        while not done.done():
            wait([done], timeout=_STEP_SECONDS)
    return done.result()


def _transfer(task: asyncio.Task[Any], done: Future[Any]) -> None:
    if task.cancelled():
        done.set_exception(asyncio.CancelledError())
    elif (error := task.exception()) is not None:
        done.set_exception(error)
    else:
        done.set_result(task.result())


def _wait(done: Future[Any], seconds: float = 10.0) -> None:
    """Give a cancelled coroutine a moment for its `finally` blocks."""
    finished = threading.Event()
    done.add_done_callback(lambda _done: finished.set())
    finished.wait(seconds)
