"""The time limits of one attempt, in whichever thread it runs."""

from __future__ import annotations

import math
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import Any, NamedTuple

from billiard.exceptions import TimeLimitExceeded

from cgk_tasks.errors import JobTimeoutError
from cgk_tasks.uninterrupted import AGAIN_SECONDS, is_uninterrupted, overcome, raise_in


class Limits(NamedTuple):
    """Of one attempt, in seconds; 0: none.

    soft: JobTimeoutError is raised in the job, which may clean up. hard: the job is ended.
    """

    soft: float = 0.0
    hard: float = 0.0


LimitError = type[JobTimeoutError] | type[TimeLimitExceeded]


def hidden_interrupt(error: BaseException | None) -> BaseException | None:
    """What interrupted a block, if `error` is only what a lock of `threading` made of it; else None.

    While Event.wait, Queue.get or Future.result wait, they have let go of their lock. An error that a signal raises at
    that moment leaves their block, which then fails once more: the lock is not held.
    """
    if not isinstance(error, RuntimeError) or error.__context__ is None or error.__traceback__ is None:
        return None
    *_, (frame, _line) = traceback.walk_tb(error.__traceback__)
    return error.__context__ if frame.f_globals.get("__name__") == "threading" else None


def deadline(seconds: float, hard: float = 0.0) -> AbstractContextManager[None]:
    """Raise JobTimeoutError inside the block once `seconds` have passed, and TimeLimitExceeded once `hard` have.

    Each is raised one time only: between the two, the block may clean up.

    In the main thread (worker processes) an alarm interrupts even a blocking system call. In other threads the
    error is raised between two steps of Python code, so a long call into C ends first. 0 seconds: no limit.
    """
    if 0 < hard <= seconds:
        seconds = 0.0
    if not seconds and not hard:
        return nullcontext()
    if threading.current_thread() is threading.main_thread():
        return _Alarm(seconds, hard)
    return _thread_alarm(seconds, hard)


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
        if is_uninterrupted(threading.get_ident()):
            signal.setitimer(signal.ITIMER_REAL, AGAIN_SECONDS)
            return
        now = time.monotonic()
        passed = next((one for one in self.deadlines if one.at <= now), None)
        error = None if passed is None else passed.ring()
        following = min((one.at for one in self.deadlines), default=math.inf)
        if following < math.inf:
            signal.setitimer(signal.ITIMER_REAL, max(following - now, 0.001))
        if error is not None:
            raise error


_timer = _Timer()


class _Alarm(AbstractContextManager[None]):
    """at: when it rings next (monotonic); never again once it has raised what it had to."""

    __slots__ = ("_hard", "_soft", "at")

    def __init__(self, soft: float, hard: float) -> None:
        self._soft, self._hard = soft, hard
        self.at = math.inf

    def __enter__(self) -> None:
        seconds = self._soft or self._hard
        self.at = time.monotonic() + seconds
        _timer.deadlines.append(self)
        _timer.require(seconds)

    def ring(self) -> Exception:
        """The error of the limit that has passed; the other one comes next."""
        soft, self._soft = self._soft, 0.0
        if not soft:
            self.at = math.inf
            return TimeLimitExceeded(self._hard)
        self.at = self.at - soft + self._hard if self._hard else math.inf
        return JobTimeoutError(soft)

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        _timer.deadlines.pop()
        if not _timer.keepers:
            _timer.rest()
        if isinstance(hidden := hidden_interrupt(error), JobTimeoutError | TimeLimitExceeded):
            raise hidden from None


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
def _thread_alarm(soft: float, hard: float) -> Iterator[None]:
    thread_id = threading.get_ident()
    lock = threading.Lock()
    over = False
    waiting: list[tuple[float, LimitError]] = [(soft, JobTimeoutError), (hard, TimeLimitExceeded)]
    waiting = [one for one in waiting if one[0]]
    raised: dict[type[BaseException], Exception] = {}
    timers: list[threading.Timer] = []

    def ring() -> None:
        with lock:
            if over:
                return
            seconds, error = waiting[0]
            kind = _without_arguments(error, seconds)
            raised[kind] = error(seconds)
            if not raise_in(thread_id, kind):
                timers.append(_started(AGAIN_SECONDS, ring))
                return
            del waiting[0]
            if waiting:
                timers.append(_started(waiting[0][0] - seconds, ring))

    try:
        with lock:  # a limit that passes meanwhile is not to interrupt the making of its thread
            timers.append(_started(waiting[0][0], ring))
        yield
    except Exception as exc:
        if (known := raised.get(type(hidden_interrupt(exc) or exc))) is not None:
            raise known.with_traceback(exc.__traceback__) from None
        raise
    finally:
        try:
            with lock:  # not amid a ring
                over = True
        finally:  # also where the error comes only now
            over = True
            if raised:
                overcome(next(reversed(raised)))
            for timer in timers:
                timer.cancel()


def _started(seconds: float, function: Callable[[], None]) -> threading.Timer:
    timer = threading.Timer(seconds, function)
    timer.daemon = True
    timer.start()
    return timer


def _without_arguments(error: Any, seconds: float) -> type[Exception]:
    """A class for one deadline: the interpreter makes the exception, without arguments, and it knows its length."""

    def init(self: Exception) -> None:
        error.__init__(self, seconds)

    body = {"__module__": error.__module__, "__qualname__": error.__qualname__, "__init__": init}
    return type(error.__name__, (error,), body)
