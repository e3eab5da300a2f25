"""What the processes of a prefork pool do right now, in memory that they share with the worker's main process.

Celery's own knowledge of it (`state.active_requests`) comes over pipes and loses entries when a connection to the
broker breaks or the worker stops. Taking a run back on that evidence would run it twice at once.
"""

from __future__ import annotations

import mmap
import os
import struct
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from billiard.process import current_process

from cgk_tasks.broker.packets import MAX_LENGTH
from cgk_tasks.worker.lease import Lease
from cgk_tasks.worker.processes import is_alive

_SLOTS = 4096
_HEAD = struct.Struct("=qdi")  # the process's pid; since when it works on a message (monotonic), or 0; runs it holds
_RUN = struct.Struct("=16si")  # a run's id and the attempt that was claimed
_LIMIT = struct.Struct("=dd16s")  # when the hard limit of the run that is on passes (monotonic), or 0; seconds; the run
_UNTIL = struct.Struct("=d")
_STOPPING, _GRACE_OVER = 1, 2
_STAGE_AT = _LIMIT_AT = _HEAD.size
_DRAINS_AT = _STAGE_AT + 1
_TAKES_RUNS = bytes(2)
_RUNS_AT = _LIMIT_AT + _LIMIT.size
_SLOT_BYTES = _RUNS_AT + MAX_LENGTH * _RUN.size  # pages that nobody writes to take no memory


@dataclass(frozen=True, slots=True)
class Held:
    """A run that a process of this worker has claimed and not yet recorded the end of."""

    id: str
    attempt: int
    pid: int


@dataclass(frozen=True, slots=True)
class OverLimit:
    """A run that has been on for longer than its hard time limit, of `seconds`."""

    id: str
    pid: int
    seconds: float
    slot: int
    until: float
    """Of its process, and when the limit passed (monotonic)."""


class AtWork(NamedTuple):
    """What a worker's processes do. digest: another one where there are other children, or these work on other
    messages.
    """

    digest: int
    busy: bool


def _slot_in_pool() -> int | None:
    """Where this child of a prefork pool writes; None in another process."""
    index = getattr(current_process(), "index", None)  # the place in the pool, which a successor takes over
    return index + 1 if isinstance(index, int) and 0 <= index < _SLOTS - 1 else None


class ProcessState:
    """Made by the main process before it forks; children write their slot, the main process reads all of them."""

    def __init__(self) -> None:
        # The first slot is the main process's: the byte behind its numbers says how far the worker has stopped, and the
        # next one whether it is drained.
        self._memory = mmap.mmap(-1, _SLOTS * _SLOT_BYTES)
        self._slot: int | None = None
        self.lease = Lease()
        self._threads: dict[int, list[Held]] = {}
        self._over_limit: dict[int, OverLimit] = {}

    def take_slot(self) -> None:
        """Called in each child of a prefork pool, before its first message. A pool of threads needs none."""
        self._slot = _slot_in_pool()

    @property
    def is_pool_child(self) -> bool:
        """Whether this process is a child of a prefork pool."""
        return self._slot is not None

    def begin(self) -> None:
        """Note that this process starts on a message. Call it before the claim: no run it holds is older."""
        self._write(time.monotonic())

    def hold(self, runs: Sequence[tuple[str, int]]) -> None:
        """These runs (id, attempt) were claimed by this process, or by this thread of it."""
        slot = self._slot
        if slot is None:
            self._threads[threading.get_ident()] = [Held(run_id, attempt, os.getpid()) for run_id, attempt in runs]
            return
        kept = runs[:MAX_LENGTH]
        at = slot * _SLOT_BYTES
        for position, (run_id, attempt) in enumerate(kept):
            id_bytes = bytes.fromhex(run_id.replace("-", ""))  # four times as fast as uuid.UUID
            _RUN.pack_into(self._memory, at + _RUNS_AT + position * _RUN.size, id_bytes, attempt)
        pid, since, _count = _HEAD.unpack_from(self._memory, at)
        _HEAD.pack_into(self._memory, at, pid, since, len(kept))

    def held(self) -> list[Held]:
        """The runs that the whole worker holds now."""
        found = [one for runs in list(self._threads.values()) for one in runs]
        for slot in range(1, _SLOTS):
            at = slot * _SLOT_BYTES
            pid, since, count = _HEAD.unpack_from(self._memory, at)
            if pid == 0:
                break  # slots are taken in order, when a child starts
            if since:
                rows = (_RUN.unpack_from(self._memory, at + _RUNS_AT + n * _RUN.size) for n in range(count))
                found += [Held(str(uuid.UUID(bytes=run_id)), attempt, pid) for run_id, attempt in rows]
        return found

    def limit(self, run_id: str, seconds: float) -> int:
        """The run that this child works on must have ended in `seconds`, else the main process kills the child.

        Returns what `lift_limit` wants to know; 0 if nobody will do that: to a thread, and for a job that another one
        calls in its own time.
        """
        slot = self._slot
        if slot is None:
            return 0
        at = slot * _SLOT_BYTES + _LIMIT_AT
        if _UNTIL.unpack_from(self._memory, at)[0]:
            return 0
        id_bytes = bytes.fromhex(run_id.replace("-", ""))
        _LIMIT.pack_into(self._memory, at, time.monotonic() + seconds, seconds, id_bytes)
        return at

    def lift_limit(self, at: int) -> None:
        """The run has ended."""
        _UNTIL.pack_into(self._memory, at, 0.0)

    def over_limit(self) -> list[OverLimit]:
        """The runs of children that have worked on them longer than their hard limit allows; each is named once.

        A run may end while its limit passes: ask `is_over_limit` again once its process can do no more.
        """
        found, now = [], time.monotonic()
        for slot in range(1, _SLOTS):
            at = slot * _SLOT_BYTES
            pid, since, _count = _HEAD.unpack_from(self._memory, at)
            if pid == 0:
                break  # slots are taken in order, when a child starts
            until, seconds, run_id = _LIMIT.unpack_from(self._memory, at + _LIMIT_AT)
            if since and 0.0 < until <= now:
                over = OverLimit(str(uuid.UUID(bytes=run_id)), pid, seconds, slot, until)
                if self._over_limit.get(slot) != over:
                    self._over_limit[slot] = over
                    found.append(over)
        return found

    def is_over_limit(self, run: OverLimit) -> bool:
        """Whether the child that was named for this run still works on it."""
        until, _seconds, run_id = _LIMIT.unpack_from(self._memory, run.slot * _SLOT_BYTES + _LIMIT_AT)
        return bool(until == run.until and run_id == uuid.UUID(run.id).bytes)

    def end(self) -> None:
        self._threads.pop(threading.get_ident(), None)
        self._write(0.0)

    def _write(self, since: float) -> None:
        slot = self._slot
        if slot is not None:
            _HEAD.pack_into(self._memory, slot * _SLOT_BYTES, os.getpid(), since, 0)
            self.lift_limit(slot * _SLOT_BYTES + _LIMIT_AT)

    def busy_seconds(self, pid: int) -> float | None:
        """How long a child has been working on its message: 0 when it has none, None if that is not known."""
        for slot in range(1, _SLOTS):
            known, since, _count = _HEAD.unpack_from(self._memory, slot * _SLOT_BYTES)
            if known == 0:
                return None  # slots are taken in order, when a child starts
            if known == pid:
                return time.monotonic() - since if since else 0.0
        return None

    def is_at_work(self) -> bool:
        """Whether this child has begun a message, and not ended it."""
        slot = self._slot
        return slot is not None and bool(_HEAD.unpack_from(self._memory, slot * _SLOT_BYTES)[1])

    @property
    def stopping(self) -> bool:
        """Whether the worker stops: nothing is claimed, no run is begun, and checkpoints end their attempt."""
        return self._memory[_STAGE_AT] >= _STOPPING

    @property
    def grace_is_over(self) -> bool:
        """Whether it stops and no longer waits for what runs."""
        return self._memory[_STAGE_AT] >= _GRACE_OVER

    def stop(self, *, grace_is_over: bool = False) -> None:
        """Called by the main process: the worker stops, for good."""
        self._memory[_STAGE_AT] = _GRACE_OVER if grace_is_over else _STOPPING

    @property
    def takes_runs(self) -> bool:
        """Whether the worker neither stops nor is drained: else nothing is claimed."""
        return self._memory[_STAGE_AT : _DRAINS_AT + 1] == _TAKES_RUNS

    def drain(self, *, is_drained: bool) -> None:
        """Called by the main process: nothing is claimed any more, or it is again."""
        self._memory[_DRAINS_AT] = is_drained

    def at_work(self) -> AtWork:
        """Asks no process, so that it can be called often."""
        heads = []
        for slot in range(1, _SLOTS):
            pid, since, _count = _HEAD.unpack_from(self._memory, slot * _SLOT_BYTES)
            if pid == 0:
                break  # slots are taken in order, when a child starts
            heads.append((pid, since))
        return AtWork(hash(tuple(heads)), bool(self._threads) or any(since for _pid, since in heads))

    def children(self) -> list[int]:
        """The pids of the children that live; none in a pool of threads."""
        found = []
        for slot in range(1, _SLOTS):
            pid, _since, _count = _HEAD.unpack_from(self._memory, slot * _SLOT_BYTES)
            if pid == 0:
                break  # slots are taken in order, when a child starts
            if is_alive(pid):
                found.append(pid)
        return found

    def busy_pids(self) -> list[int]:
        """The processes that live and work on a message; this one, where a thread of it does."""
        found = [os.getpid()] if self._threads else []
        for slot in range(1, _SLOTS):
            pid, since, _count = _HEAD.unpack_from(self._memory, slot * _SLOT_BYTES)
            if pid == 0:
                break  # slots are taken in order, when a child starts
            if since and is_alive(pid):
                found.append(pid)
        return found


_state: ProcessState | None = None


def share() -> ProcessState:
    """New shared memory for a worker; called by its main process before the first fork."""
    global _state  # noqa: PLW0603 - one worker a process
    _state = ProcessState()
    return _state


def shared() -> ProcessState:
    """The memory of the worker that this process belongs to; its own where there is none."""
    return _state or share()


def known() -> ProcessState | None:
    """The memory of the worker that this process belongs to, if there is one."""
    return _state


def forget() -> None:
    """The worker inside this process has ended, or it is that of the process that this one was forked from."""
    global _state  # noqa: PLW0603 - one worker a process
    _state = None
