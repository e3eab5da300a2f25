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

from cgk_tasks.errors import JobTimeoutError


def deadline(seconds: float) -> AbstractContextManager[None]:
    """Raise JobTimeoutError inside the block once `seconds` have passed.

    In the main thread (worker processes) an alarm interrupts even a blocking system call. In other threads the
    error is raised between two steps of Python code, so a long call into C ends first. 0 seconds: no limit.
    """
    if not seconds:
        return nullcontext()
    return _Alarm(seconds) if threading.current_thread() is threading.main_thread() else _thread_alarm(seconds)


class _Timer:
    """The alarm of the main thread. There is one a process, so it rings for the deadline that passes first.

    Inside `kept` it goes on between deadlines: runs of a packet share it, and none pays for system calls of its own.
    A ring that no deadline waits for is ignored.
    """

    def __init__(self) -> None:
        self.deadlines: list[tuple[float, float]] = []
        """When each that is open passes (monotonic), and its length in seconds; the outermost first."""
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
        later = [at - now for at, _seconds in self.deadlines if at > now]
        if later:
            signal.setitimer(signal.ITIMER_REAL, max(min(later), 0.001))
        for at, seconds in self.deadlines:
            if at <= now:
                raise JobTimeoutError(seconds)


_timer = _Timer()


class _Alarm(AbstractContextManager[None]):
    __slots__ = ("_seconds",)

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        _timer.deadlines.append((time.monotonic() + self._seconds, self._seconds))
        _timer.require(self._seconds)

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


class _TimeIsUp(Exception):  # noqa: N818 - raised without arguments by the interpreter, then replaced
    pass


@contextmanager
def _thread_alarm(seconds: float) -> Iterator[None]:
    thread_id = threading.get_ident()
    lock = threading.Lock()
    over = False

    def ring() -> None:
        with lock:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(_TimeIsUp))

    timer = threading.Timer(seconds, ring)
    timer.daemon = True
    timer.start()
    try:
        yield
    except _TimeIsUp:
        raise JobTimeoutError(seconds) from None
    finally:
        with lock:
            over = True
        timer.cancel()
