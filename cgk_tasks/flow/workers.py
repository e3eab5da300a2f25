"""Workers as operators see them: what each does now, and draining them.

To drain a worker is a column of its row, which its heartbeat reads: it counts within CGK_HEARTBEAT_SECONDS, with or
without a broker, and ends with the worker's process. Every worker has a row: those of `celery worker`, those inside
applications, and those of gateways.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from cgk_tasks.config import get_settings
from cgk_tasks.errors import InvalidOptionError
from cgk_tasks.sql.postgres import Connection, Row, autocommit, fetch, statements, transaction
from cgk_tasks.tenancy.audit import note
from cgk_tasks.tenancy.visibility import refuse_in_context

SQL = statements("workers")

State = Literal["active", "silent", "to be drained", "draining", "drained"]

MOST_WORKERS: Final = 500
_SHOWN_OF_A_PROCESS: Final = 50
_CAN_DRAIN: Final = "0031"
"""Workers that know this migration read what is wanted of them."""


@dataclass(frozen=True, slots=True)
class RunNow:
    """A run that a process has claimed and not ended. seconds: since its claim."""

    id: str
    tenant_id: str
    event: str
    job: str | None
    attempt: int
    started_at: datetime
    seconds: float


@dataclass(frozen=True, slots=True)
class ProcessNow:
    """A process that executes runs. memory: in bytes, with what it shares with its parent; None where nobody tells.

    runs: how many it has claimed; more than one where they travelled in one packet, or it has threads. shown: the first
    of them.
    """

    pid: int
    memory: int | None
    runs: int
    shown: tuple[RunNow, ...]


@dataclass(frozen=True, slots=True)
class Worker:
    """A worker as of its last heartbeat, and what it runs as of now.

    pool_size: how many runs it executes at once, None where it is of a release that does not say. leads: whether it is
    the dispatcher. processes: those that execute runs; of a worker with threads its only one. memory: of all of its
    processes, in bytes. drain_wanted_at: since when it is to take no more runs; drains_since: since when it takes none;
    drained_at: since when it has none left.
    """

    id: str
    name: str
    pid: int
    queues: tuple[str, ...]
    started_at: datetime
    heartbeat_at: datetime
    silent_seconds: float
    pool_size: int | None
    leads: bool
    can_drain: bool
    drain_wanted_at: datetime | None
    drain_wanted_by: str | None
    drain_reason: str | None
    drains_since: datetime | None
    drained_at: datetime | None
    memory: int | None
    processes: tuple[ProcessNow, ...] = field(default=())

    @property
    def host(self) -> str:
        """The machine, as the worker's name says it."""
        return self.name.rpartition("@")[2]

    @property
    def is_inside_an_application(self) -> bool:
        """Whether it is a part of another program's process: `embedded_worker`, or a gateway with a worker."""
        return self.name.startswith(f"embedded-{self.pid}@")

    @property
    def runs(self) -> int:
        """How many runs it has now."""
        return sum(one.runs for one in self.processes)

    @property
    def state(self) -> State:
        """`silent` after CGK_WORKER_TIMEOUT_SECONDS without a heartbeat: others take its runs over."""
        if self.silent_seconds > get_settings().worker_timeout_seconds:
            return "silent"
        if self.drain_wanted_at is None:
            return "active"
        if self.drains_since is None:
            return "to be drained"
        return "draining" if self.runs or self.drained_at is None else "drained"


def list_workers(worker: str | None = None, connection: Connection | None = None) -> list[Worker]:
    """The workers on record with what they run, by name; at most 500 of them.

    worker: those of this id or name alone. Raises TenantContextError inside a tenant's context, StoreError.
    """
    refuse_in_context("What workers do")
    if connection is not None:
        return _list(connection, worker)
    with autocommit() as own:
        return _list(own, worker)


def drain_workers(worker: str, *, by: str = "", reason: str = "") -> list[Worker]:
    """Let the worker of this id, or all workers of this name, take no more runs: they finish those that they have.

    It is obeyed within CGK_HEARTBEAT_SECONDS. One that is to be drained already stays as it is. What is in the queues
    waits for other workers. Returns the workers as they were. Raises InvalidOptionError where there is none, or one is
    of an earlier release and would not obey; TenantContextError inside a tenant's context.
    """
    refuse_in_context("A worker")
    with transaction() as connection:
        found = _known(connection, worker)
        deaf = [one.name for one in found if not one.can_drain]
        if deaf:
            raise InvalidOptionError(
                "worker", f"is {deaf[0]}, of an earlier release, which cannot be drained.",
                hint="Stop it: it finishes its runs or gives them back",
            )  # fmt: skip
        fetch(connection, SQL["drain"], {"workers": [one.id for one in found], "by": by, "reason": reason})
        for one in found:
            note(connection, "drain worker", one.name, by=by, message=reason)
    return found


def resume_workers(worker: str) -> int:
    """Let the worker of this id, or all of this name, take runs again, within CGK_HEARTBEAT_SECONDS.

    Returns how many were to be drained. Raises InvalidOptionError where there is none, TenantContextError inside a
    tenant's context.
    """
    refuse_in_context("A worker")
    with transaction() as connection:
        found = [one for one in _known(connection, worker) if one.can_drain]
        resumed = fetch(connection, SQL["take_runs_again"], {"workers": [one.id for one in found]}) if found else []
        for row in resumed:
            note(connection, "let worker take runs", row["name"])
    return len(resumed)


def _known(connection: Connection, worker: str) -> list[Worker]:
    found = _list(connection, worker) if worker else []
    if not found:
        raise InvalidOptionError(
            "worker",
            f"is {worker[:200]!r}, and no worker on record has this id or name.",
            hint="See: cgk-tasks workers list",
        )
    return found


def _list(connection: Connection, worker: str | None) -> list[Worker]:
    rows = fetch(connection, SQL["list"], {"worker": worker, "limit": MOST_WORKERS})
    values = {"workers": [row["id"] for row in rows], "limit": _SHOWN_OF_A_PROCESS}
    running: dict[str, dict[int, list[Row]]] = {}
    for run in fetch(connection, SQL["running"], values) if rows else []:
        running.setdefault(run["worker_id"], {}).setdefault(run["pid"], []).append(run)
    return [_worker(row, running.get(row["id"], {})) for row in rows]


def _worker(row: Row, running: Mapping[int, Sequence[Row]]) -> Worker:
    memory = {int(pid): size for pid, size in (row.pop("memory") or {}).items()}
    can_drain = (row.pop("revision") or "") >= _CAN_DRAIN
    # Its children; the main process too where it executes runs itself, or has no children.
    pids = {*(memory.keys() - {row["pid"]} or {row["pid"]}), *running}
    processes = tuple(_process(pid, memory.get(pid), running.get(pid, ())) for pid in sorted(pids))
    queues = tuple(row.pop("queues"))
    return Worker(
        **row, queues=queues, can_drain=can_drain, memory=sum(memory.values()) if memory else None, processes=processes
    )


def _process(pid: int, memory: int | None, runs: Sequence[Row]) -> ProcessNow:
    names = ("id", "tenant_id", "event", "job", "attempt", "started_at", "seconds")
    shown = tuple(RunNow(**{name: run[name] for name in names}) for run in runs)
    return ProcessNow(pid, memory, runs[0]["runs"] if runs else 0, shown)
