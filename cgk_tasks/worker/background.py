"""What a leader does now and then that may last: in threads of its own, so that what is due does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import copy_context


class Background:
    """Threads by name, one of each at a time."""

    def __init__(self) -> None:
        self._threads: dict[str, threading.Thread] = {}

    def start(self, name: str, act: Callable[[], object]) -> None:
        """Call `act`, which logs its errors, in a thread; not while the last one of this name is at it."""
        last = self._threads.get(name)
        if last is None or not last.is_alive():
            run = copy_context().run  # with the current runtime
            self._threads[name] = threading.Thread(target=run, args=(act,), name=f"cgk-{name}", daemon=True)
            self._threads[name].start()
