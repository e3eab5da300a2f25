"""Who has a page open that follows what it shows: one look a second for all of them, while there are any."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final, TypeVar

import psycopg
import structlog

from cgk_tasks.dashboard.live_marks import Topic, marks
from cgk_tasks.recurring import RecurringWarning
from cgk_tasks.sql.looking import Looks
from cgk_tasks.sql.postgres import explain

log = structlog.get_logger("cgk_tasks.dashboard")

EVERY_SECONDS: Final = 1.0
MOST_OF_A_USER: Final = 20
MOST: Final = 500
MOST_SEARCHES: Final = 5
"""So many lists are looked at in one look: each costs what its page costs. The others have their turn in the next."""

T = TypeVar("T")


class Watcher:
    """One open page. Its browser is told that something has changed, and nothing of what.

    seen: the mark of the page that it has. Where that is not known, the first look tells it: the page was made a while
    before.
    """

    def __init__(self, topic: Topic, seen: str = "", now: float = -math.inf) -> None:
        self.topic = topic
        self.is_over = False
        self._mark = seen
        self._told_at = now if seen else -math.inf
        self._some = asyncio.Event()

    def may_be_told(self, now: float) -> bool:
        return now - self._told_at >= self.topic.pace.least

    def found(self, mark: str | None, now: float) -> None:
        """What a look has found; None where it did not look, or there is nothing."""
        if not self.may_be_told(now):
            return
        if (mark is not None and mark != self._mark) or now - self._told_at >= self.topic.pace.stale:
            self._mark, self._told_at = mark or self._mark, now
            self._some.set()

    def end(self) -> None:
        self.is_over = True
        self._some.set()

    async def changed(self, seconds: float) -> bool:
        """Whether something has, as soon as it has; no if that takes longer."""
        if not self._some.is_set():
            try:
                await asyncio.wait_for(self._some.wait(), max(seconds, 0.0))
            except TimeoutError:
                return False
        self._some.clear()
        return not self.is_over


class TooManyOpenError(Exception):
    """A user, or the process, has as many pages open that follow as there may be."""


class LivePages:
    """Those of the process."""

    def __init__(self) -> None:
        self._of_users: Counter[str] = Counter()
        self._looked_at: dict[Topic, float] = {}
        # A thread of its own: looks do not wait until slow pages are made.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="live-pages")
        self._looks: Looks[Watcher, Mapping[Topic, str]] = Looks(
            self._look, _tell, every_seconds=EVERY_SECONDS, in_thread=self._in_thread,
            away=RecurringWarning(log, "live_pages_not_fed", "live_pages_fed_again"), reason=_reason,
        )  # fmt: skip

    def __len__(self) -> int:
        return len(self._looks)

    @contextmanager
    def open(self, watcher: Watcher, user_name: str) -> Iterator[None]:
        """Follow, for the length of a block. Raises TooManyOpenError."""
        if len(self) >= MOST or self._of_users[user_name] >= MOST_OF_A_USER:
            raise TooManyOpenError
        self._of_users[user_name] += 1
        try:
            with self._looks.open(watcher):
                yield
        finally:
            self._of_users[user_name] -= 1
            if not self._of_users[user_name]:
                del self._of_users[user_name]

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)

    def _look(self, watchers: tuple[Watcher, ...]) -> Mapping[Topic, str]:
        now = time.monotonic()
        wanted = {watcher.topic for watcher in watchers if watcher.may_be_told(now)}
        self._looked_at = {topic: self._looked_at.get(topic, -math.inf) for topic in wanted}
        searches = sorted((topic for topic in wanted if topic.kind == "runs"), key=self._looked_at.__getitem__)
        looked = wanted.difference(searches[MOST_SEARCHES:])
        self._looked_at |= dict.fromkeys(looked, now)
        return marks(looked)


def _tell(watchers: tuple[Watcher, ...], found: Mapping[Topic, str]) -> None:
    now = time.monotonic()
    for watcher in watchers:
        watcher.found(found.get(watcher.topic), now)


def _reason(exc: Exception) -> str:
    """Without texts that nobody has foreseen: they may quote a payload."""
    return str(explain(exc)) if isinstance(exc, psycopg.Error) else type(exc).__qualname__
