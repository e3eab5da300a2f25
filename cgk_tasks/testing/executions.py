"""One execution of a job for a proof: a run of a tenant of its own, with all that follows from it, on the real record.

It takes the way of a worker, in this process: the run is claimed, executed and finished by the worker's own code. A
`Process` has connections and knowledge of its own; when one has died, its runs are reclaimed as those of a dead worker,
and another one goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import cgk_tasks
from cgk_tasks.admission.switch import SWITCH, Switch
from cgk_tasks.broker.publisher import PATIENT_PUBLISHER, PUBLISHER
from cgk_tasks.celery_tasks.adapter import UNHANDLED, adapter_of
from cgk_tasks.client.client import CLIENT, create_job_client
from cgk_tasks.client.own_runtime import runtime_with
from cgk_tasks.config import get_settings
from cgk_tasks.events.base import TenantEvent
from cgk_tasks.flow.accept import accept
from cgk_tasks.flow.listeners import LISTENERS, Listeners
from cgk_tasks.flow.new_run import NO_OPTIONS, Origin, new_run
from cgk_tasks.runs import store
from cgk_tasks.runs.models import NewRun, RunStatus
from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch, statements, transaction
from cgk_tasks.tenancy.models import Tenant
from cgk_tasks.testing.crash_points import Crash, CrashPoints, PointedPublisher
from cgk_tasks.worker import pipeline, recovery
from cgk_tasks.worker.identity import worker_id
from cgk_tasks.workflows.awaiting import note_awaited_events

SQL, TRANSITIONS = statements("testing"), statements("transitions")

_MOST_DELIVERIES: Final = 1_000
"""After so many an execution that does not end is given up."""

_ACKNOWLEDGEMENT: Final = "before the acknowledgement of the message"


class NotEndedError(AssertionError):
    """An execution does not come to its end."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """What is done to an execution. die_at: the number of the point at which its first process dies. is_twice: each of
    its messages comes twice. is_twice_at_once: one comes again while its run is on.
    """

    die_at: int | None = None
    is_twice: bool = False
    is_twice_at_once: bool = False


UNDISTURBED: Final = Disturbance()


class _NoPasses(Switch):
    """Nothing waits in lanes: nobody would make passes."""

    def _ask_now_and_then(self) -> None: ...


class _NoWarnings(Listeners):
    """The proof itself is the worker that its runs need."""

    def warn_of_unserved(self, runs: Iterable[NewRun]) -> None: ...


class Process:
    """What a worker's process holds, until it dies."""

    def __init__(self, die_at: int | None = None) -> None:
        self._runtime = runtime_with(get_settings())
        self.points = CrashPoints(self._runtime, die_at)
        for part in (PUBLISHER, PATIENT_PUBLISHER):
            self._runtime.put(part, PointedPublisher(self.points))
        self._runtime.put(SWITCH, _NoPasses())
        self._runtime.put(LISTENERS, _NoWarnings())
        with self._runtime.active():
            self._runtime.put(CLIENT, create_job_client("celery"))
        from cgk_tasks.testing.connections import Connections

        self._connections: Connections | None = Connections(self._runtime)
        self.points.watch()

    @contextmanager
    def active(self) -> Iterator[None]:
        with self._runtime.active():
            yield

    def close(self) -> None:
        """Closes its connections, so that PostgreSQL rolls back what they had not committed. Twice is once."""
        connections, self._connections = self._connections, None
        if connections is not None:
            connections.close()

    def deliver(self, run: Row) -> None:
        """Execute a run as a worker that its message has come to. Raises Crash where the process dies."""
        tasks: Any = cgk_tasks.app.tasks
        task = tasks.get(run["event"]) or tasks[UNHANDLED]
        with self._runtime.active(), self.points.counting():
            try:
                pipeline.run_packet(adapter_of(task), [run["id"]])
            except Exception:
                self.points.check_alive()  # the exception is only what unwinding made of the death
                raise
            self.points.check_alive()
            self.points.pass_by(_ACKNOWLEDGEMENT)


@dataclass
class Execution:
    """Of a job's event for one tenant. meanwhile: called with the run's id when it is sent."""

    job_id: str
    event: TenantEvent
    tenant: Tenant
    disturbance: Disturbance
    meanwhile: Callable[[str], object] | None = None
    decide: Callable[[str], Mapping[str, Any]] | None = None
    run_id: str = ""
    passed: list[str] = field(default_factory=list)
    died_at: str | None = None
    passed_later: list[str] = field(default_factory=list)
    """By the processes that went on when the first one had died."""
    asked_for: list[str] = field(default_factory=list)
    """Effects of which a person was asked."""

    def go(self) -> RunStatus:
        """From the send to the end of the last run. Returns the job's run. Raises NotEndedError."""
        from cgk_tasks.celery_app import register_application_events

        register_application_events()
        first = Process(self.disturbance.die_at)
        processes = [first]
        try:
            with first.active():
                note_awaited_events()
                self.run_id = self._send()
            self._drive(processes)
            with processes[-1].active():
                return store.get(self.run_id)
        finally:
            self.passed, self.died_at = first.points.passed, first.points.died_at
            self.passed_later = [name for process in processes[1:] for name in process.points.passed]
            for process in processes:
                process.points.unwatch()
                process.close()

    def _send(self) -> str:
        text = self.event.to_json().decode()
        run = new_run(self.event.event_name, self.tenant.id, text, NO_OPTIONS, Origin(job=self.job_id), self.tenant)
        accept([run])
        if self.meanwhile is not None:
            self.meanwhile(run.id)
        return run.id

    def _drive(self, processes: list[Process]) -> None:
        for _ in range(_MOST_DELIVERIES):
            with processes[-1].active():
                run = self._next_run()
            if run is None:
                return
            try:
                self._deliver(processes[-1], run)
            except Crash:
                processes[-1].close()
                processes.append(Process())
                with processes[-1].active():
                    self._reclaim()
                processes[-1].deliver(run)  # nobody has acknowledged its message, which comes again
        raise NotEndedError(f"{self.job_id} has not ended after {_MOST_DELIVERIES} deliveries.")

    def _deliver(self, process: Process, run: Row) -> None:
        if self.disturbance.is_twice_at_once:
            process.points.at_first("after transitions.claim_one", lambda: _deliver_elsewhere(run))
        process.deliver(run)
        if self.disturbance.is_twice:
            process.deliver(run)

    def _reclaim(self) -> None:
        """As the supervisor does with the runs of a process that has died."""
        held = [run["id"] for run in self._open_runs() if run["is_held"]]
        recovery.reclaim(worker_id(), held, reason="its process died")

    def _open_runs(self) -> list[Row]:
        with autocommit() as connection:
            return fetch(connection, SQL["open_runs"], {"tenant_id": self.tenant.id})

    def _next_run(self) -> Row | None:
        """The run that a worker takes next; the time of one that waits for it has come. None if all have ended."""
        runs = self._open_runs()
        pending = next((run for run in runs if run["state"] == "pending"), None)
        if pending is not None or not runs:
            return pending
        due = next((run for run in runs if run["state"] in {"scheduled", "retrying"} and run["has_time"]), None)
        if due is not None:
            with transaction() as connection:
                execute(connection, SQL["let_steps_be_due"], {"id": due["id"]})
                fetch(connection, TRANSITIONS["wake_these"], {"ids": [due["id"]], "publishes": True})
            return due
        return self._decided(runs)

    def _decided(self, runs: list[Row]) -> Row:
        """A run that waits for a person's decision about an effect, which is given."""
        for run in runs:
            with autocommit() as connection:
                effects = fetch(connection, SQL["effects_without_answer"], {"id": run["id"]})
            for effect in effects:
                self.asked_for.append(effect["name"])
                if self.decide is not None:
                    cgk_tasks.signal_run(run["id"], effect["name"], self.decide(effect["name"]))
                    return run
        waiting = ", ".join(f"{run['event']} {run['id']} is {run['state']}" for run in runs if not run["is_parent"])
        asked = f" A person is asked whether effect {self.asked_for[-1]!r} happened." if self.asked_for else ""
        raise NotEndedError(f"{waiting}, and nothing is left to come for it.{asked}")


def _deliver_elsewhere(run: Row) -> None:
    """A second worker takes the same message, and does with it what it would."""
    failures: list[BaseException] = []

    def take() -> None:
        process = Process()
        try:
            process.deliver(run)
        except BaseException as exc:  # noqa: BLE001 - raised where the thread was started
            failures.append(exc)
        finally:
            process.points.unwatch()
            process.close()

    thread = threading.Thread(target=take, name="cgk-second-delivery")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
