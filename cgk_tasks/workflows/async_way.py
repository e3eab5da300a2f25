"""How the steps of a coroutine are done, several at the same time, and when its leg ends.

A wait ends the leg only when no step is on any more. So `asyncio.gather` over steps and waits does all that it can do
now, and the run then waits for the first of what is left.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")


class AsyncWay:
    """Of one leg."""

    def __init__(self) -> None:
        self._on = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def call(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """A function of the application's: a coroutine here, another one in a thread."""
        if inspect.iscoroutinefunction(function):
            return await function(*args)
        value = await asyncio.to_thread(function, *args)
        return await value if inspect.isawaitable(value) else value

    async def write(self, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.to_thread(function, *args)

    @contextmanager
    def is_on(self) -> Iterator[None]:
        self._on += 1
        self._quiet.clear()
        try:
            yield
        finally:
            self._on -= 1
            if not self._on:
                self._quiet.set()

    async def until_quiet(self) -> None:
        """Until no step is on. What goes on after a step may begin another one."""
        while True:
            await self._quiet.wait()
            await asyncio.sleep(0)
            if self._quiet.is_set():
                return

    def note_task(self) -> None:
        """The task that asks for a step belongs to the leg."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)

    async def close(self) -> None:
        """End what the function has left behind: branches that wait, or that nobody awaits any more."""
        left = [task for task in self._tasks if task is not asyncio.current_task() and not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
