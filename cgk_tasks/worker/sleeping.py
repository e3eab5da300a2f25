"""Sleeping until a moment by the clock that goes on while the machine sleeps: who waits for a long time wakes once."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Final

from cgk_tasks.sql.clock import steady

_LOOK_SECONDS: Final = 1.0
"""Where the system has no such sleep, a long one is made of these."""
_ABSOLUTE: Final = 1


class _Time(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


def sleep_until(moment: float) -> None:
    """Return at this moment, by `steady()`, or a little earlier: look again. In a thread that nobody has to wake."""
    remaining = moment - steady()
    if remaining <= 0:
        return
    if sys.platform != "linux":
        time.sleep(min(remaining, _LOOK_SECONDS))
        return
    until = _Time(int(moment), int(moment % 1 * 1e9))
    ctypes.CDLL(None).clock_nanosleep(time.CLOCK_BOOTTIME, _ABSOLUTE, ctypes.byref(until), None)
