"""What a worker's supervisor must know of, and may do to, the processes or threads that execute its runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from cgk_tasks.runs.job_events import Route
from cgk_tasks.sql.postgres import Row
from cgk_tasks.worker.dispatcher import RunClosed
from cgk_tasks.worker.lease import Lease
from cgk_tasks.worker.process_state import AtWork, OverLimit


class Holding(Protocol):
    """A run with the attempt that was claimed, and the process that works on it."""

    @property
    def id(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def pid(self) -> int: ...


@dataclass(frozen=True)
class Pool:
    """Of one worker."""

    name: str
    queues: Callable[[], Collection[str]]
    processes: Callable[[], int]
    """How many runs it executes at once."""
    events: Callable[[], Mapping[str, Route]]
    """The events that the worker has jobs for, and where those want their runs."""
    executes: Callable[[], Collection[str]]
    """What the worker can execute: names as `executed_name` makes them."""
    at_work: Callable[[], AtWork]
    """What its processes do now."""
    is_at_work: Callable[[Row], bool]
    """Whether somebody in the pool works on this run (id, worker_pid, seconds since its claim)."""
    lease: Lease
    """What the processes of the pool may count on, renewed by each heartbeat."""
    held: Callable[[], Sequence[Holding]]
    """The runs that the pool has claimed and not yet recorded the end of."""
    interrupt: Callable[[int, Collection[str]], None]
    """Raise RunCancelledError in these runs, which the child with this pid holds."""
    fence: Callable[[], None]
    """End what runs here at once: kill every child, interrupt the jobs of this process."""
    has_killed: Callable[[int], bool]
    """Whether the worker itself has killed the child that had this pid: that is no death of its runs' making."""
    looked_after: Callable[[], None]
    """Called when the runs of all dead children are reclaimed."""
    over_limit: Callable[[], Collection[OverLimit]]
    """The runs that have been on for longer than their hard time limit; each is named once."""
    is_over_limit: Callable[[OverLimit], bool]
    """Whether one that was named is still on."""
    kill: Callable[[Collection[int]], None]
    """Kill the children with these pids."""
    on_timed_out: Callable[[str, float], None]
    """Record that a run was killed by its hard time limit (seconds)."""
    on_closed: RunClosed
