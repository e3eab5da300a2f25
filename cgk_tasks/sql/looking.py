"""Looking at PostgreSQL again and again, for as long as somebody watches: one look for all who do in a process.

So nothing that sends or executes runs has to know who watches, a look that failed is made up for by the next one, and
no connection is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Final, Generic, TypeVar

from cgk_tasks.recurring import RecurringWarning

W = TypeVar("W")
F = TypeVar("F")

_REST: Final = 3.0
"""A look that takes long is followed by a pause so many times as long."""
_SLOWEST_SECONDS: Final = 2.0


class Looks(Generic[W, F]):
    """Those who watch in an event loop. A task looks for them, from the first that comes to the last that leaves.

    look: called in a thread with all of them; may raise. tell: called in the event loop, with the same and what was
    found. in_thread: calls a function in a thread. away: said while looks fail, with what `reason` makes of the error.
    """

    def __init__(
        self,
        look: Callable[[tuple[W, ...]], F],
        tell: Callable[[tuple[W, ...], F], None],
        *,
        every_seconds: float,
        in_thread: Callable[[Callable[[], F]], Awaitable[F]],
        away: RecurringWarning,
        reason: Callable[[Exception], str],
    ) -> None:
        self._look, self._tell, self._every_seconds = look, tell, every_seconds
        self._in_thread, self._away, self._reason = in_thread, away, reason
        self._watchers: set[W] = set()
        self._task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._watchers)

    def __iter__(self) -> Iterator[W]:
        return iter(tuple(self._watchers))

    @contextmanager
    def open(self, watcher: W) -> Iterator[None]:
        """Look for this one, too, for the length of a block."""
        self._watchers.add(watcher)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look_now_and_then(), name="cgk-looks")
        try:
            yield
        finally:
            self._watchers.discard(watcher)

    async def _look_now_and_then(self) -> None:
        failures = 0
        while self._watchers:
            begun, watchers = time.monotonic(), tuple(self._watchers)
            try:
                found = await self._in_thread(lambda here=watchers: self._look(here))  # type: ignore[misc]
            except Exception as exc:  # noqa: BLE001 - whatever it is, the next look may find what has changed
                failures += 1
                self._away.warn(streams=len(watchers), reason=self._reason(exc))
            else:
                failures = 0
                self._away.is_over()
                self._tell(watchers, found)
            took = time.monotonic() - begun
            patience = min(self._every_seconds * 2**failures, max(_SLOWEST_SECONDS, self._every_seconds))
            await asyncio.sleep(max(patience - took, _REST * took))
