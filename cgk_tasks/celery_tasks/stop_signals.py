"""What a worker's processes do about SIGTERM, Ctrl-C and SIGQUIT.

The main process stops in order; once more, or SIGQUIT, ends the grace. Its children leave all of it to the main
process: systemd, `tini -g` and Heroku signal every process, and a child that obeys would take its job with it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any, cast

from billiard import common, pool
from celery import signals
from celery.apps.worker import Worker
from celery.platforms import EX_FAILURE, EX_OK
from celery.worker import state

from cgk_tasks.worker import process_state
from cgk_tasks.worker.stopping import Stop

_pool, _common = cast("Any", pool), cast("Any", common)  # their stubs know little

Handler = Callable[[int, FrameType | None], Any]

_MOMENT_SECONDS = 0.5
_ALL = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def listen(worker: object, stop: Stop) -> None:
    """Called in the main process, once Celery has installed its own handlers."""
    if not isinstance(worker, Worker) or threading.current_thread() is not threading.main_thread():
        return  # one that tests run in a thread: signals are not for it

    def on_signal(number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        is_cold = number == signal.SIGQUIT or stop.has_begun
        if is_cold:
            stop.hurry()
        stop.begin()
        exit_code = EX_OK if number == signal.SIGTERM else EX_FAILURE
        if vars(state)["should_stop"] is None:
            vars(state)["should_stop"] = exit_code  # the main loop looks at it
        _wake(vars(worker).get("hub"))
        how = "Cold" if is_cold else "Warm"
        with suppress(OSError):
            os.write(1, f"\nworker: {how} shutdown (MainProcess)\n".encode())  # print() may be under way
        signals.worker_shutting_down.send(sender=vars(worker)["hostname"], sig=name, how=how, exitcode=exit_code)

    for number in _ALL:
        signal.signal(number, on_signal)


def _wake(hub: Any) -> None:
    """Have Celery's loop look up, which may sleep for seconds. Kombu's own way takes a lock, which the code that the
    signal has interrupted may hold.
    """
    waker = getattr(hub, "_waker", None)
    if waker is not None:
        waker.wake()


def leave_to_main_process() -> None:
    """Called in a child before billiard installs its handlers, which raise SystemExit in whatever runs."""
    reset = _pool.reset_signals

    def reset_signals(*args: Any, **options: Any) -> None:
        reset(*args, **options)
        for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP):
            previous = signal.getsignal(number)
            if previous is vars(_common)["_shutdown_cleanup"]:
                signal.signal(number, _unless_busy(previous))

    _pool.reset_signals = reset_signals


def _unless_busy(handler: Handler) -> Handler:
    def on_signal(number: int, frame: FrameType | None) -> None:
        if process_state.shared().is_at_work() or _common.terminate_handler_fired() or _worker_stops():
            return
        handler(number, frame)

    return on_signal


def _worker_stops() -> bool:
    """Whether this signal was for all processes: then the main process has got it too, and says so in a moment."""
    give_up = time.monotonic() + _MOMENT_SECONDS
    while not process_state.shared().stopping:
        if time.monotonic() > give_up:
            return False
        time.sleep(0.01)
    return True
