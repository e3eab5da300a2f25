"""Interrupting runs while they run: those that are cancelled, and all of them when their worker's grace is over.

The worker's main process knows which runs are cancelled; the child that holds them is another process. So it names
them in a file and signals the child, which raises RunCancelledError in the job if it is one of them, and skips those
of its packet that it has not begun. In a pool of threads the error is raised in the job's thread. That the grace is
over stands in the memory that they share; then the same signal raises RunInterrupted in whatever runs.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import threading
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import FrameType

from cgk_tasks.errors import RunCancelledError
from cgk_tasks.jobs.time_limit import hidden_interrupt
from cgk_tasks.uninterrupted import AGAIN_SECONDS, is_uninterrupted, raise_in
from cgk_tasks.worker import process_state
from cgk_tasks.worker.identity import worker_id

SIGNAL = signal.SIGUSR2

_cancelled: set[str] = set()
_running: dict[str, int] = {}
"""Runs whose job is on right now in this process, and the thread it is on in."""


class RunInterrupted(BaseException):
    """The worker stops. This attempt ends here and does not count; the run goes on elsewhere, from its last checkpoint.

    No Exception: a job that takes every error for one of the item it works on must not take this for one.
    """


class _Interrupt(Exception):  # noqa: N818 - raised without arguments by the interpreter, then replaced
    pass


class interruptible(AbstractContextManager[None]):  # noqa: N801 - used like a function
    """Around a job, and nothing else: what interrupts is raised here, never while an outcome is written."""

    __slots__ = ("_run_id",)

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id

    def __enter__(self) -> None:
        if self._run_id in _cancelled:
            _cancelled.discard(self._run_id)
            raise RunCancelledError(self._run_id)
        _running[self._run_id] = threading.get_ident()

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        _running.pop(self._run_id, None)
        _cancelled.discard(self._run_id)
        hidden = hidden_interrupt(error)
        if isinstance(hidden or error, _Interrupt):
            raise RunCancelledError(self._run_id) from None
        if isinstance(hidden, RunInterrupted):
            raise hidden from None


def request(pid: int, run_ids: Collection[str]) -> None:
    """Called in the main process: these runs, which the process `pid` holds, are cancelled."""
    if pid == os.getpid():
        _interrupt_here(run_ids)
        return
    _note(pid, run_ids)
    with suppress(ProcessLookupError):
        os.kill(pid, SIGNAL)


def interrupt_all(pids: Collection[int]) -> None:
    """Called in the main process once the grace is over: interrupt whatever runs in these processes."""
    for pid in pids:
        if pid == os.getpid():
            _interrupt_threads(list(_running))
        else:
            with suppress(ProcessLookupError):
                os.kill(pid, SIGNAL)


def _note(pid: int, run_ids: Collection[str]) -> None:
    path = _note_for(pid)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    half = path.with_suffix(".half")
    half.write_text(json.dumps(sorted(run_ids)), encoding="ascii")
    half.replace(path)


def interrupt_own() -> None:
    """Called in the main process: interrupt every run that one of its own threads works on."""
    _interrupt_here(list(_running))


def _interrupt_here(run_ids: Collection[str]) -> None:
    _cancelled.update(run_ids)
    for run_id in run_ids:
        thread = _running.get(run_id)
        if thread is None:
            continue
        if thread == threading.main_thread().ident and signal.getsignal(SIGNAL) is _on_signal:
            signal.pthread_kill(thread, SIGNAL)  # it also ends a sleep
        elif not raise_in(thread, _Interrupt):
            _soon(_interrupt_here, [run_id])


def _interrupt_threads(run_ids: Collection[str]) -> None:
    for run_id in run_ids:
        thread = _running.get(run_id)
        if thread is not None and not raise_in(thread, RunInterrupted):
            _soon(_interrupt_threads, [run_id])


def _soon(function: Callable[..., object], *args: object) -> None:
    timer = threading.Timer(AGAIN_SECONDS, function, args)
    timer.daemon = True
    timer.start()


def _note_for(pid: int) -> Path:
    return Path(tempfile.gettempdir()) / f"cgk-cancelled-{worker_id()}" / str(pid)


def listen() -> None:
    """Called once in each process that runs jobs in its main thread."""
    signal.signal(SIGNAL, _on_signal)


def _on_signal(_signal: int, _frame: FrameType | None) -> None:
    with suppress(OSError, ValueError):
        _cancelled.update(json.loads(_note_for(os.getpid()).read_text(encoding="ascii")))
    here = threading.get_ident()  # signals are handled in the main thread, whose run it may not be
    if is_uninterrupted(here):
        _soon(signal.pthread_kill, here, SIGNAL)
        return
    for run_id, thread in list(_running.items()):
        if thread == here and run_id in _cancelled:
            raise _Interrupt
    if _running and process_state.shared().grace_is_over:
        raise RunInterrupted


def forget() -> None:
    """Called when the worker stops: remove the notes."""
    folder = _note_for(0).parent
    for note in folder.glob("*") if folder.is_dir() else ():
        note.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
