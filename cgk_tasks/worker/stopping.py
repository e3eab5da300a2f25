"""A worker's stop in order: what runs may end within a grace, is interrupted after it, and then killed.

From its beginning on nothing is claimed and no further run of a packet is begun, and an attempt that reaches a
checkpoint ends there. Whatever ends a run here does not count: neither as an attempt nor as a death.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Collection

import structlog

from cgk_tasks.worker import interruption, process_state

log = structlog.get_logger("cgk_tasks.worker")

_UNWIND_SECONDS = 1.0
"""An interrupted job has so long for its `finally` blocks."""
_END_SECONDS = 5.0
"""The pool has so long to end when no job runs any more."""
_LOOK_SECONDS = 0.05


class Stop(threading.Thread):
    """Begun from a signal handler or by the worker's shutdown, whichever comes first."""

    def __init__(
        self, grace_seconds: float, kill: Callable[[Collection[int] | None], None], abandon: Callable[[], None]
    ) -> None:
        """kill: end these children of the pool at once, or all of them. abandon: end this process, whose threads do not
        let go of their jobs.
        """
        super().__init__(name="cgk-stop", daemon=True)
        self._grace_seconds = grace_seconds
        self._kill = kill
        self._abandon = abandon
        self._hurried = threading.Event()
        self._finished = threading.Event()
        self.has_begun = False

    def begin(self) -> None:
        """Called in the main thread. Safe to repeat."""
        if not self.has_begun:
            self.has_begun = True
            process_state.shared().stop()
            self.start()

    def hurry(self) -> None:
        """The grace is over now."""
        self._hurried.set()

    def finish(self) -> None:
        """The worker's pool has ended."""
        self._finished.set()
        self._hurried.set()

    def run(self) -> None:
        self._hurried.wait(self._grace_seconds)
        if self._finished.is_set():
            return
        state = process_state.shared()
        state.stop(grace_is_over=True)
        busy = state.busy_pids()
        if busy:
            log.warning("stop_grace_over", grace_seconds=self._grace_seconds, processes=len(busy))
            interruption.interrupt_all(busy)
            self._wait_idle(_UNWIND_SECONDS)
        left = state.busy_pids()
        if os.getpid() in left:
            self._abandon()
        if left:
            log.warning("jobs_killed_by_stop", processes=len(left), hint="They did not end when they were interrupted.")
            self._kill(left)
        # Tasks without a record are not seen here, and a process may hang on its way out.
        if not self._finished.wait(_END_SECONDS):
            log.warning("pool_killed_by_stop", hint="It did not end by itself.")
            self._kill(None)
            if not self._finished.wait(_END_SECONDS):
                self._abandon()

    def _wait_idle(self, seconds: float) -> None:
        give_up = time.monotonic() + seconds
        while process_state.shared().busy_pids() and time.monotonic() < give_up:
            self._finished.wait(_LOOK_SECONDS)
