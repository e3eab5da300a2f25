"""A soft time limit for one attempt, in whichever thread it runs."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from cgk_tasks.errors import JobTimeoutError


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raise JobTimeoutError inside the block once `seconds` have passed.

    In the main thread (worker processes) an alarm interrupts even a blocking system call. In other threads the
    error is raised between two steps of Python code, so a long call into C ends first. 0 seconds: no limit.
    """
    if not seconds:
        yield
        return
    if threading.current_thread() is threading.main_thread():
        with _alarm(seconds):
            yield
    else:
        with _thread_alarm(seconds):
            yield


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    def ring(_signal: int, _frame: FrameType | None) -> None:
        raise JobTimeoutError(seconds)

    outer = signal.getitimer(signal.ITIMER_REAL)[0]
    if 0 < outer <= seconds:  # an outer deadline comes first: it serves both
        yield
        return
    begun = time.monotonic()
    previous = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
        if outer:
            signal.setitimer(signal.ITIMER_REAL, max(outer - (time.monotonic() - begun), 0.001))


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
