"""What belongs to an event loop, and cannot be used on another one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One of a thing for each event loop of a process, made at first use."""

    def __init__(self, make: Callable[[], T], close: Callable[[T], object] = lambda _made: None) -> None:
        self._make, self._close = make, close
        self._made: WeakKeyDictionary[asyncio.AbstractEventLoop, T] = WeakKeyDictionary()
        self._lock = threading.Lock()

    def current(self) -> T:
        """That of the running loop. Raises RuntimeError where none runs."""
        loop = asyncio.get_running_loop()
        try:
            return self._made[loop]
        except KeyError:
            pass
        made = self._make()
        with self._lock:
            ended = [one for one in self._made if one.is_closed()]
            left = [self._made.pop(one) for one in ended]
            self._made[loop] = made
        for one in left:  # of loops that ended without closing what was on them
            self._close(one)
        return made

    def close(self) -> None:
        """Close those of all loops. The next use makes others."""
        with self._lock:
            made = list(self._made.values())
            self._made.clear()
        for one in made:
            self._close(one)
