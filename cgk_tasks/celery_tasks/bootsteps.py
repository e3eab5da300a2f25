"""What a Celery worker of ours does beside running tasks: its supervisor, and how its children live and die."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import billiard.pool
import structlog
from celery import bootsteps, platforms, signals
from celery.worker import state

from cgk_tasks.broker.without import has_broker
from cgk_tasks.celery_tasks import canvas, limits, stop_signals
from cgk_tasks.celery_tasks.adapter import executed_names
from cgk_tasks.celery_tasks.killed_children import KilledChildren
from cgk_tasks.celery_tasks.packet_request import PacketRequest
from cgk_tasks.celery_tasks.pools import refuse_other_pools
from cgk_tasks.celery_tasks.supervisors import set_supervisor
from cgk_tasks.celery_tasks.timed_out import record_timed_out
from cgk_tasks.config import HOSTED_PROVIDERS, get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.jobs.routes import routes_of_events
from cgk_tasks.runs import tracing
from cgk_tasks.runs.ends import Closed
from cgk_tasks.sql import postgres
from cgk_tasks.sql.postgres import Row
from cgk_tasks.worker import identity, interruption, process_state
from cgk_tasks.worker.lease import LeaseWatch
from cgk_tasks.worker.pool import Pool
from cgk_tasks.worker.stopping import Stop
from cgk_tasks.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from celery.worker import WorkController

log = structlog.get_logger("cgk_tasks.worker")

_PR_SET_PDEATHSIG = 1
_CLAIM_SLACK_SECONDS = 2.0
_killed: Final = KilledChildren()
_main_pid = 0
"""The worker's main process, as its children know it: it may die before they have come so far as to ask."""


class SupervisorStep(bootsteps.StartStopStep):
    """Starts the supervisor after the pool and an embedded beat, which are forked from a process without threads: so no
    child inherits a lock that nobody will release.
    """

    requires = ("celery.worker.components:Pool", "celery.worker.components:Beat")

    def __init__(self, parent: WorkController, **options: Any) -> None:
        super().__init__(parent, **options)
        self.supervisor: Supervisor | None = None
        self._stop: Stop | None = None

    def create(self, worker: WorkController) -> None:
        global _main_pid  # noqa: PLW0603 - one worker a process
        try:
            refuse_other_pools(vars(worker)["pool_cls"])
            refuse_what_cannot_work()
            if not _is_embedded(worker):
                _refuse_without_broker()
        except ConfigurationError as exc:
            raise SystemExit(f"error: {exc}") from None
        app: Any = worker.app
        app.routing.current()  # what the application has set since its tasks were made is theirs, in the children too
        limits.take_over(worker)
        _main_pid = os.getpid()
        identity.new_worker_id()
        process_state.share()
        if not _is_embedded(worker):
            _let_children_start_lightly()

    def start(self, worker: WorkController) -> None:
        self.supervisor = Supervisor(identity.worker_id(), _pool(worker))
        set_supervisor(worker.app, self.supervisor)
        self.supervisor.start()
        if threading.current_thread() is not threading.main_thread():
            return  # inside an application, or a test: it ends when that says so, and the process goes on
        self._stop = Stop(
            grace_seconds=worker.app.conf.worker_soft_shutdown_timeout,
            kill=lambda pids: _kill(worker, pids),
            abandon=lambda: self._abandon(worker),
        )
        stop_signals.listen(worker, self._stop)

    def close(self, worker: WorkController) -> None:  # noqa: ARG002
        """The first that a step hears of a shutdown, also of one that no signal has begun."""
        if self._stop is not None:
            self._stop.begin()

    def stop(self, worker: WorkController) -> None:
        # The running jobs end first, while the heartbeat goes on: without it others would take their runs.
        pool: Any = worker.pool
        pool.stop()
        self._leave(worker)

    def terminate(self, worker: WorkController) -> None:
        if self._stop is None:
            self.stop(worker)
            return
        pool: Any = worker.pool
        self._stop.hurry()
        self._stop.join()
        pool.terminate()
        self._leave(worker)

    def _abandon(self, worker: WorkController) -> None:
        """End this process although jobs run in threads of it: nobody else can end those."""
        self._leave(worker)
        os._exit(state.should_stop or 0)

    def _leave(self, worker: WorkController) -> None:
        if self._stop is not None:
            self._stop.finish()
        set_supervisor(worker.app, None)
        if self.supervisor is not None:
            self.supervisor.stop()
            self.supervisor = None
        interruption.forget()
        if not _is_embedded(worker):
            postgres.close_pools()


def refuse_what_cannot_work() -> None:
    """Raises ConfigurationError where jobs run in Inngest or Trigger.dev and no database holds runs of an earlier
    provider, so that there is nothing to do; and for a URL that no connection can be made with, which is no server that
    may come back.
    """
    settings = get_settings()
    if settings.provider in HOSTED_PROVIDERS and settings.database_url is None:
        _ = settings.database  # the error says what is missing
    if settings.database_url is not None:
        postgres.parameters(settings.database)


def _let_children_start_lightly() -> None:
    """Celery asks in each new child that it end with its parent, for which billiard, where cffi is installed, parses a
    declaration in C: with the parser 4 MB and some 15 ms. `prepare_child` asks for the same without that.
    """
    celerys: Any = platforms
    celerys.set_pdeathsig = lambda _name: None


def _refuse_without_broker() -> None:
    if not has_broker():
        raise ConfigurationError(
            "With CGK_BROKER_URL=postgresql there is no broker, and `celery worker` needs one.",
            hint="Run the jobs inside the application, with embedded_worker(), or set it to Redis or RabbitMQ.",
        )


def _is_embedded(worker: WorkController) -> bool:
    """Whether the process is an application's, which goes on with its objects and connections."""
    return bool(getattr(worker, "is_embedded", False))


def _pool(worker: WorkController) -> Pool:
    def on_closed(run: Closed) -> None:
        canvas.follow_closed([run], worker.app)

    def on_timed_out(run_id: str, seconds: float) -> None:
        record_timed_out(worker.app, run_id, seconds)

    def is_at_work(row: Row) -> bool:
        if row["worker_pid"] == os.getpid():  # a pool of threads
            return row["id"] in _active_run_ids() or row["id"] in _held_ids()
        busy = process_state.shared().busy_seconds(row["worker_pid"])
        return busy is None or row["seconds"] < busy + _CLAIM_SLACK_SECONDS

    return Pool(
        name=str(vars(worker)["hostname"]),
        queues=lambda: list(worker.app.amqp.queues.consume_from),
        processes=lambda: getattr(worker.pool, "num_processes", None) or 1,
        events=routes_of_events,
        executes=lambda: executed_names(worker.app),
        at_work=process_state.shared().at_work,
        is_at_work=is_at_work,
        lease=process_state.shared().lease,
        held=lambda: process_state.shared().held(),
        interrupt=interruption.request,
        fence=lambda: _fence(worker),
        has_killed=_killed.__contains__,
        looked_after=_killed.looked_after,
        over_limit=process_state.shared().over_limit,
        is_over_limit=process_state.shared().is_over_limit,
        kill=lambda pids: _kill(worker, pids),
        on_timed_out=on_timed_out,
        on_closed=on_closed,
    )


def _active_run_ids() -> list[str]:
    # Celery adds to this weak set in another thread meanwhile; a list of its references is made in one step.
    requests = [reference() for reference in list(vars(state.active_requests)["data"])]
    return [run_id for request in requests if isinstance(request, PacketRequest) for run_id in request.run_ids]


def _held_ids() -> set[str]:
    """What threads hold that were not begun by a message of Celery's."""
    return {run.id for run in process_state.shared().held()}


def _fence(worker: WorkController) -> None:
    interruption.interrupt_own()
    _kill(worker, None)


def _kill(worker: WorkController, pids: Collection[int] | None) -> None:
    """Kill these children of the pool, or all of them."""
    for process in list(getattr(getattr(worker.pool, "_pool", None), "_pool", None) or []):
        if pids is None or process.pid in pids:
            _killed.add(process.pid)
            process._controlled_termination = process._job_terminated = True  # noqa: SLF001 - so Celery reports no loss
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


@signals.worker_process_init.connect
def prepare_child(**_arguments: Any) -> None:
    """In every child of the pool: it ends with its parent, also when that hangs, and it can be interrupted."""
    # A pool without children (solo) is the main process itself, which may have had a worker before: in tests.
    die_with_parent(_main_pid if _main_pid not in {0, os.getpid()} else os.getppid())
    stop_signals.leave_to_main_process()
    interruption.listen()
    state = process_state.shared()
    state.take_slot()
    state.end()
    if state.is_pool_child:
        LeaseWatch(state.lease, state.is_at_work).start()
    # At shutdown a child waits 30 s for its parent to count the last results, which it sometimes never does: Celery
    # has dropped the messages that it did not see begin. Ours are on record by then.
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 5


@signals.worker_process_shutdown.connect
def end_child(**_arguments: Any) -> None:
    """In a child of the pool that ends in order."""
    tracing.flush()


def die_with_parent(parent: int) -> None:
    """End this process when its parent has died: a job must not run on while another worker repeats it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, name="cgk-parent-watch", daemon=True).start()
