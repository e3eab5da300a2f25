"""What is written a little later, many things at once, by a thread."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Generic, TypeVar

import psycopg

from cgk_tasks.errors import CgkTasksError
from cgk_tasks.uninterrupted import uninterrupted

T = TypeVar("T")


class Soon(Generic[T]):
    """What waits to be written in this process, and the thread that does it.

    The list is only appended to, and cut at its beginning by the thread: so nothing needs a lock to be added. The
    thread begins with the first thing, so that a process which has none pays nothing. A forked process begins afresh:
    what waits is its parent's.

    write: writes what is due, with the lock held, and returns what must be written again. lock: for whoever writes
    such a thing itself, to come after what is just being written.
    """

    def __init__(self, name: str, every_seconds: float, write: Callable[[Sequence[T]], Iterable[T]]) -> None:
        self._name, self._every, self._write = name, every_seconds, write
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self.lock = threading.Lock()
        self._waiting: list[T] = []
        self._some = threading.Event()
        self._thread: threading.Thread | None = None

    @uninterrupted
    def add(self, thing: T) -> None:
        """Have it written after `every_seconds` or so."""
        self._waiting.append(thing)
        if not self._some.is_set():
            self._some.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_now_and_then, name=self._name, daemon=True)
            self._thread.start()

    def _write_now_and_then(self) -> None:
        while True:
            self._some.wait()
            time.sleep(self._every)
            self._some.clear()
            due = self._waiting[:]
            del self._waiting[: len(due)]
            again: Iterable[T] = due
            try:
                with self.lock:
                    again = self._write(due)
            except (psycopg.Error, CgkTasksError):
                pass  # they are written later; the end of the run says so if PostgreSQL is still away
            for thing in again:
                self.add(thing)
