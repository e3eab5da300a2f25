"""What the processes of a prefork pool do right now, in memory that they share with the worker's main process.

Celery's own knowledge of it (`state.active_requests`) comes over pipes and loses entries when a connection to the
broker breaks or the worker stops. Taking a run back on that evidence would run it twice at once.
"""

from __future__ import annotations

import mmap
import os
import struct
import time

from billiard.process import current_process

_SLOTS = 4096
_SLOT = struct.Struct("=qd")  # the process's pid; since when it works on a message (monotonic), 0 when it has none


class Activity:
    """Made by the main process before it forks; children write their slot, the main process reads all of them."""

    def __init__(self) -> None:
        # The first slot is the main process's: its second number says whether the worker is fenced.
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT.size)

    def begin(self) -> None:
        """Note that this process starts on a message. Call it before the claim: no run it holds is older."""
        self._write(time.monotonic())

    def end(self) -> None:
        self._write(0.0)

    def _write(self, since: float) -> None:
        slot = getattr(current_process(), "index", None)  # the place in the pool, which a successor takes over
        if isinstance(slot, int) and 0 <= slot < _SLOTS - 1:
            _SLOT.pack_into(self._memory, (slot + 1) * _SLOT.size, os.getpid(), since)

    def busy_seconds(self, pid: int) -> float | None:
        """How long a child has been working on its message: 0 when it has none, None if that is not known."""
        for slot in range(1, _SLOTS):
            known, since = _SLOT.unpack_from(self._memory, slot * _SLOT.size)
            if known == 0:
                return None  # slots are taken in order, when a child starts
            if known == pid:
                return time.monotonic() - since if since else 0.0
        return None

    @property
    def fenced(self) -> bool:
        """Whether the worker is out of touch with the record for so long that it must not claim runs."""
        return bool(_SLOT.unpack_from(self._memory, 0)[1])

    @fenced.setter
    def fenced(self, value: bool) -> None:
        _SLOT.pack_into(self._memory, 0, 0, float(value))


_activity: Activity | None = None


def share() -> Activity:
    """New shared memory for a worker; called by its main process before the first fork."""
    global _activity  # noqa: PLW0603 - one worker a process
    _activity = Activity()
    return _activity


def shared() -> Activity:
    """The memory of the worker that this process belongs to; its own where there is none."""
    return _activity or share()
