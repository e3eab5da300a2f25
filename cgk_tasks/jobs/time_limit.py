"""The time limits of one attempt, in whichever thread it runs."""

from __future__ import annotations

import math
import signal
import threading
import time
import traceback
from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, NamedTuple, TypeVar

from billiard.exceptions import TimeLimitExceeded

from cgk_tasks.errors import JobTimeoutError
from cgk_tasks.uninterrupted import AGAIN_SECONDS, is_uninterrupted, overcome, raise_in, uninterrupted

T = TypeVar("T")


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


def within(soft: float, hard: float, function: Callable[[], T]) -> T:
    """Call a function that has so many seconds, as `deadline` says. After it nothing of that is raised any more,
    whatever interrupts it and at whichever step: also before the first one of the block's end.
    """
    if not soft and not hard:
        return function()
    limit = deadline(soft, hard)
    try:
        with limit:
            return function()
    except BaseException as error:
        limit.close()
        if (named := limit.named(error)) is not None:
            raise named from None
        raise


def deadline(seconds: float, hard: float = 0.0) -> Deadline:
    """Raise JobTimeoutError inside the block once `seconds` have passed, and TimeLimitExceeded once `hard` have.

    Each is raised one time only: between the two, the block may clean up.

    In the main thread (worker processes) an alarm interrupts even a blocking system call. In other threads the
    error is raised between two steps of Python code, so a long call into C ends first. 0 seconds: no limit.
    """
    if 0 < hard <= seconds:
        seconds = 0.0
    if threading.current_thread() is threading.main_thread():
        return _Alarm(seconds, hard)
    return _ThreadAlarm(seconds, hard)


class Deadline(AbstractContextManager[None]):
    """The limits of a block."""

    __slots__ = ()

    @abstractmethod
    def close(self) -> None:
        """Raise nothing from now on. For the end of the block, and once more where that was interrupted."""

    @abstractmethod
    def named(self, error: BaseException | None) -> BaseException | None:
        """The limit that was raised in the block, if this came of it; None: it did not, or is the limit itself."""

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self.close()
        if (named := self.named(error)) is not None:
            raise named from None


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


class _Alarm(Deadline):
    """at: when it rings next (monotonic); never again once it has raised what it had to."""

    __slots__ = ("_hard", "_soft", "at")

    def __init__(self, soft: float, hard: float) -> None:
        self._soft, self._hard = soft, hard
        self.at = math.inf

    def __enter__(self) -> None:
        seconds = self._soft or self._hard
        if not seconds:
            return
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

    def close(self) -> None:
        self.at = math.inf
        if self in _timer.deadlines:
            _timer.deadlines.remove(self)
        if not _timer.keepers:
            _timer.rest()

    def named(self, error: BaseException | None) -> BaseException | None:
        hidden = hidden_interrupt(error)
        return hidden if isinstance(hidden, JobTimeoutError | TimeLimitExceeded) else None


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


class _ThreadAlarm(Deadline):
    """Timers that raise in the thread that made it."""

    __slots__ = ("_is_over", "_lock", "_raised", "_thread_id", "_timers", "_waiting")

    def __init__(self, soft: float, hard: float) -> None:
        self._thread_id = threading.get_ident()
        self._lock = threading.Lock()
        self._is_over = False
        limits: list[tuple[float, LimitError]] = [(soft, JobTimeoutError), (hard, TimeLimitExceeded)]
        self._waiting = [one for one in limits if one[0]]
        self._raised: dict[type[BaseException], Exception] = {}
        self._timers: list[threading.Timer] = []

    @uninterrupted  # a thread that is half made
    def __enter__(self) -> None:
        if self._waiting:
            self._ring_in(self._waiting[0][0])

    def _ring_in(self, seconds: float) -> None:
        timer = threading.Timer(seconds, self._ring)
        timer.daemon = True
        self._timers.append(timer)
        timer.start()

    def _ring(self) -> None:
        with self._lock:
            if self._is_over:
                return
            seconds, error = self._waiting[0]
            kind = _without_arguments(error, seconds)
            self._raised[kind] = error(seconds)
            if not raise_in(self._thread_id, kind):
                self._ring_in(AGAIN_SECONDS)
                return
            del self._waiting[0]
            if self._waiting:
                self._ring_in(self._waiting[0][0] - seconds)

    @uninterrupted
    def close(self) -> None:
        with self._lock:  # not amid a ring
            self._is_over = True
        if self._raised:
            overcome(next(reversed(self._raised)))
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()  # they refer to this object

    def named(self, error: BaseException | None) -> BaseException | None:
        if error is None:
            return None
        known = self._raised.get(type(hidden_interrupt(error) or error))
        return None if known is None else known.with_traceback(error.__traceback__)


def _without_arguments(error: Any, seconds: float) -> type[Exception]:
    """A class for one deadline: the interpreter makes the exception, without arguments, and it knows its length."""

    def init(self: Exception) -> None:
        error.__init__(self, seconds)

    body = {"__module__": error.__module__, "__qualname__": error.__qualname__, "__init__": init}
    return type(error.__name__, (error,), body)
