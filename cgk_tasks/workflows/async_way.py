"""How the steps of a coroutine are done, several at the same time, and when its leg ends.

A branch that waits is held, and the leg ends when nothing else goes on any more. So `asyncio.gather` over steps and
waits does all that it can do now, and the run then waits for the first of what is left. As the branch raises nothing,
it makes no difference how the coroutine gathers its branches, or whether it needs all of them.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NoReturn, TypeVar

T = TypeVar("T")

_ROUNDS: Final = 50
"""So often the event loop goes round before nothing goes on: what follows a step comes some rounds later."""


class AsyncWay:
    """Of one leg."""

    def __init__(self) -> None:
        self._on = 0
        self._quiet = asyncio.Event()
        self._quiet.set()
        self._is_waiting = asyncio.Event()
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

    async def wait(self) -> NoReturn:
        """Hold a branch that waits, until the leg ends."""
        self._is_waiting.set()
        await asyncio.Future()
        raise AssertionError

    async def until_all_wait(self) -> None:
        """Until a branch waits, and no step is on or is begun by what goes on."""
        await self._is_waiting.wait()
        await self.until_quiet()

    async def until_quiet(self) -> None:
        """Until no step is on or is begun by what goes on."""
        rounds = 0
        while rounds < _ROUNDS:
            await self._quiet.wait()
            await asyncio.sleep(0)
            rounds = rounds + 1 if self._quiet.is_set() else 0

    def note_task(self) -> None:
        """The task that asks for a step belongs to the leg."""
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)

    async def close(self, *tasks: asyncio.Task[Any]) -> None:
        """End these, and what the function has left behind: branches that wait, or that nobody awaits any more."""
        left = [task for task in self._tasks.union(tasks) if task is not asyncio.current_task() and not task.done()]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
