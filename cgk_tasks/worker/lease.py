"""A worker's lease on its runs, in memory that its processes share.

Each heartbeat that PostgreSQL took renews it. Others take over the runs of a worker that is silent for
`worker_timeout_seconds`, so a process whose lease is over claims nothing and ends what it runs. It reads that by
itself: PostgreSQL may not answer, but the worker's main process may as well be the one that hangs.
"""

from __future__ import annotations

import mmap
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

import structlog

from cgk_tasks.sql.clock import steady
from cgk_tasks.worker.sleeping import sleep_until

log = structlog.get_logger("cgk_tasks.worker")

_OVER_AT: Final = 0.8
"""Part of the timeout after which the runs are ended; the rest is time for the ending."""
_LOOKS: Final = 20
_LOG_SECONDS: Final = 0.5
_MOMENT_SECONDS: Final = 0.01


class Lease:
    """Made by the main process before it forks. Without a limit it is never over: nobody watches these runs."""

    def __init__(self) -> None:
        # Written and read as whole numbers of the machine, so that no process sees half of one.
        self._numbers = memoryview(mmap.mmap(-1, 16)).cast("d")  # the last heartbeat; the limit, or 0

    def begin(self, timeout_seconds: float) -> None:
        """From now on the worker has to make itself heard."""
        self._numbers[0] = steady()
        self._numbers[1] = timeout_seconds * _OVER_AT

    def renew(self, asked_at: float) -> None:
        """A heartbeat is on record; the record's time is not earlier than `asked_at`, by `steady()`."""
        self._numbers[0] = asked_at

    @property
    def limit(self) -> float:
        return self._numbers[1]

    @property
    def silent_seconds(self) -> float:
        """Since the last heartbeat that is on record."""
        return steady() - self._numbers[0]

    @property
    def is_over(self) -> bool:
        limit = self._numbers[1]
        return limit > 0 and steady() - self._numbers[0] > limit

    @property
    def look_seconds(self) -> float:
        """How often to look where nobody knows when it would be over."""
        return self._numbers[1] / _LOOKS or 1.0

    @property
    def over_at(self) -> float:
        """When it is over if no heartbeat comes, by `steady()`."""
        limit = self._numbers[1]
        return self._numbers[0] + limit if limit else steady() + self.look_seconds


class LeaseWatch(threading.Thread):
    """In a child of the pool: ends the process when the lease is over while it is at work.

    A process that was stopped and goes on looks at once, between two steps of Python.
    """

    def __init__(self, lease: Lease, is_at_work: Callable[[], bool]) -> None:
        super().__init__(name="cgk-lease", daemon=True)
        self._lease = lease
        self._is_at_work = is_at_work

    def start(self) -> None:
        signal.signal(signal.SIGCONT, self._on_continue)
        super().start()

    def run(self) -> None:
        while True:
            # Once it is over, a process that is not at work yet may begin with something.
            sleep_until(max(self._lease.over_at + _MOMENT_SECONDS, steady() + self._least_pause()))
            if self._has_to_end():
                self._end()

    def _least_pause(self) -> float:
        return self._lease.look_seconds if self._lease.is_over else 0.0

    def _has_to_end(self) -> bool:
        return self._lease.is_over and self._is_at_work()

    def _on_continue(self, _signal: int, _frame: FrameType | None) -> None:
        if self._has_to_end():
            os.kill(os.getpid(), signal.SIGKILL)  # nothing is logged here: the log may be in the middle of a line

    def _end(self) -> None:
        # The log may block, for instance because whoever reads it hangs as well.
        line = threading.Thread(target=self._log, daemon=True)
        line.start()
        line.join(_LOG_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    def _log(self) -> None:
        log.error(
            "process_ended_itself",
            silent_seconds=round(self._lease.silent_seconds, 1),
            reason="No heartbeat of this worker is on record for so long that others are about to take its runs.",
        )
