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
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Final, TypeVar

from cgk_tasks.errors import RunCancelledError
from cgk_tasks.jobs.time_limit import hidden_interrupt
from cgk_tasks.uninterrupted import AGAIN_SECONDS, is_uninterrupted, overcome, raise_in
from cgk_tasks.worker import process_state
from cgk_tasks.worker.identity import worker_id

SIGNAL = signal.SIGUSR2

T = TypeVar("T")

_cancelled: set[str] = set()
_running: dict[str, int] = {}
"""Runs whose job is on right now in this process, and the thread it is on in."""
_raised: dict[str, type[BaseException]] = {}
"""Runs in whose threads an error is being raised, or was. It is noted before the thread of the run is looked for."""
_raising: Final = threading.Lock()
"""Held from the note until the error is raised."""


class RunInterrupted(BaseException):
    """The worker stops. This attempt ends here and does not count; the run goes on elsewhere, from its last checkpoint.

    No Exception: a job that takes every error for one of the item it works on must not take this for one.
    """


class _Interrupt(Exception):  # noqa: N818 - raised without arguments by the interpreter, then replaced
    pass


def interruptible(run_id: str, job: Callable[[], T]) -> T:
    """Call a job, and nothing else: what interrupts is raised in it, never while an outcome is written.

    A function: the end of a `with` block is a call that can be interrupted before its first step.
    """
    try:
        try:
            _running[run_id] = threading.get_ident()
            if run_id in _cancelled:
                raise _Interrupt
            return job()
        finally:
            _leave(run_id)
    except BaseException as error:
        _leave(run_id)  # it may have been what was interrupted
        hidden = hidden_interrupt(error)
        if isinstance(hidden or error, _Interrupt):
            raise RunCancelledError(run_id) from None
        if isinstance(hidden, RunInterrupted):
            raise hidden from None
        raise


def _leave(run_id: str) -> None:
    """See that nothing which is meant for the run is raised after this. Whoever is interrupted here calls it again."""
    _running.pop(run_id, None)
    _cancelled.discard(run_id)
    if run_id not in _raised:
        return
    with _raising:  # who has found the run before has raised its error by now
        error = _raised.get(run_id)
    if error is not None:
        overcome(error)
    with _raising:
        _raised.pop(run_id, None)


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
            for run_id in list(_running):
                _raise_in(run_id, RunInterrupted)
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
    main_thread = threading.main_thread().ident
    is_heard = signal.getsignal(SIGNAL) is _on_signal
    for run_id in run_ids:
        if is_heard and main_thread is not None and _running.get(run_id) == main_thread:
            signal.pthread_kill(main_thread, SIGNAL)  # it also ends a sleep
        else:
            _raise_in(run_id, _Interrupt)


def _raise_in(run_id: str, error: type[BaseException]) -> None:
    """Raise an error in the thread of a run, if its job is on, and not in what the thread does next."""
    with _raising:
        is_noted = run_id in _raised
        _raised[run_id] = error
        thread = _running.get(run_id)
        if thread is None:
            if not is_noted:
                del _raised[run_id]
        elif not raise_in(thread, error):
            _soon(_raise_in, run_id, error)


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
    runs = [run_id for run_id, thread in list(_running.items()) if thread == here]
    if not _cancelled.isdisjoint(runs):
        raise _Interrupt
    if runs and process_state.shared().grace_is_over:
        raise RunInterrupted


def forget() -> None:
    """Called when the worker stops: remove the notes."""
    folder = _note_for(0).parent
    for note in folder.glob("*") if folder.is_dir() else ():
        note.unlink(missing_ok=True)
    with suppress(OSError):
        folder.rmdir()
