"""Calls that no time limit, cancellation or end of grace breaks off, as others need what would be left half done.

An error that is raised in a thread from outside can come between any two steps of Python code: also when a Condition
or an Event of `threading` has just been locked, and before the `with` that would unlock it. Then it stays locked.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

AGAIN_SECONDS: Final = 0.01
"""Who wants to interrupt such a call tries again after so long."""


class _Thread:
    """calls: how many of them it is in, one in another."""

    __slots__ = ("calls", "lock")

    def __init__(self) -> None:
        self.calls = 0
        self.lock = threading.Lock()


_threads: Final[dict[int, _Thread]] = {}


def _thread(thread_id: int) -> _Thread:
    found = _threads.get(thread_id)
    return _threads.setdefault(thread_id, _Thread()) if found is None else found


def uninterrupted(function: Callable[P, T]) -> Callable[P, T]:
    """Have the calls of a function end before what interrupts their thread is raised. For short ones that wait for
    nothing.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        thread = _thread(threading.get_ident())
        thread.calls += 1
        try:
            with thread.lock:
                pass  # who has looked before has raised its error by now, and that comes here
            return function(*args, **kwargs)
        finally:
            thread.calls -= 1

    return call


def is_uninterrupted(thread_id: int) -> bool:
    """Whether the thread is in such a call now. For signal handlers, which ask it of their own thread."""
    return _thread(thread_id).calls > 0


def raise_in(thread_id: int, error: type[BaseException]) -> bool:
    """Have an error raised in another thread, between two of its next steps. False if it is in such a call now."""
    thread = _thread(thread_id)
    with thread.lock:
        if thread.calls:
            return False
        _set(thread_id, error)
        return True


def overcome(error: type[BaseException]) -> None:
    """See that an error which was to be raised in this thread is raised in nothing that comes after this call.

    The interpreter can forget for a while that there is one, when two threads have one at the same time. So it is
    raised here, once more if it has been already. To withdraw it would leave the interpreter looking for it for ever.
    """
    try:
        _set(threading.get_ident(), error)
        for _ in range(100):
            pass  # it comes between two of these steps at the latest
    except error:
        pass


def _set(thread_id: int, error: type[BaseException]) -> None:
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(error))
