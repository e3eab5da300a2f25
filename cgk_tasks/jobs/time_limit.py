"""A soft time limit for one attempt, in whichever thread it runs."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any

from billiard.exceptions import TimeLimitExceeded

from cgk_tasks.errors import JobTimeoutError

LimitError = type[JobTimeoutError] | type[TimeLimitExceeded]


def deadline(seconds: float, error: LimitError = JobTimeoutError) -> AbstractContextManager[None]:
    """Raise JobTimeoutError, or another `error`, inside the block once `seconds` have passed.

    It is raised one time only, so the block may clean up.

    In the main thread (worker processes) an alarm interrupts even a blocking system call. In other threads the
    error is raised between two steps of Python code, so a long call into C ends first. 0 seconds: no limit.
    """
    if not seconds:
        return nullcontext()
    if threading.current_thread() is threading.main_thread():
        return _Alarm(seconds, error)
    return _thread_alarm(seconds, error)


class _Timer:
    """The alarm of the main thread. There is one a process, so it rings for the deadline that passes first.

    Inside `kept` it goes on between deadlines: runs of a packet share it, and none pays for system calls of its own.
    A ring that no deadline waits for is ignored.
    """

    def __init__(self) -> None:
        self.deadlines: list[_Alarm] = []
        """Those that are open, the outermost first."""
        self.keepers = 0
        self._previous: Any = None

    def require(self, seconds: float) -> None:
        """Have the alarm ring in `seconds` or before."""
        if not 0 < signal.getitimer(signal.ITIMER_REAL)[0] <= seconds:
            previous = signal.signal(signal.SIGALRM, self._ring)
            if previous != self._ring:
                self._previous = previous
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def rest(self) -> None:
        """Stop it when nobody needs it any more."""
        if not self.deadlines and not self.keepers and signal.getsignal(signal.SIGALRM) == self._ring:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._previous or signal.SIG_DFL)

    def _ring(self, _signal: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        waiting = [one for one in self.deadlines if not one.has_rung]
        passed = next((one for one in waiting if one.at <= now), None)
        later = [one.at - now for one in waiting if one is not passed]
        if later:
            signal.setitimer(signal.ITIMER_REAL, max(min(later), 0.001))
        if passed is not None:
            passed.has_rung = True
            raise passed.error(passed.seconds)


_timer = _Timer()


class _Alarm(AbstractContextManager[None]):
    __slots__ = ("at", "error", "has_rung", "seconds")

    def __init__(self, seconds: float, error: LimitError) -> None:
        self.seconds, self.error = seconds, error
        self.at, self.has_rung = 0.0, False

    def __enter__(self) -> None:
        self.at = time.monotonic() + self.seconds
        _timer.deadlines.append(self)
        _timer.require(self.seconds)

    def __exit__(self, *_exception: object) -> None:
        _timer.deadlines.pop()
        if not _timer.keepers:
            _timer.rest()


@contextmanager
def kept_alarm() -> Iterator[None]:
    """Around many short deadlines, one after another: they share one alarm."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _timer.keepers += 1
    try:
        yield
    finally:
        _timer.keepers -= 1
        _timer.rest()


@contextmanager
def _thread_alarm(seconds: float, error: LimitError) -> Iterator[None]:
    thread_id = threading.get_ident()
    lock = threading.Lock()
    over = False

    # The interpreter makes the exception, without arguments: a class of this deadline's own knows its length.
    class TimeIsUp(error):  # type: ignore[misc, valid-type]
        __module__, __qualname__ = error.__module__, error.__qualname__

        def __init__(self) -> None:
            super().__init__(seconds)

    def ring() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(TimeIsUp))

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    except TimeIsUp:
        raise error(seconds) from None
    finally:
        with lock:
            over = True
        timer.cancel()
