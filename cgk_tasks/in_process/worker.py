"""The worker of the application's process: started and stopped by the application, of which it is a few threads."""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import structlog
from kombu.utils.compat import detect_environment

from cgk_tasks.celery_app import register_application_events
from cgk_tasks.celery_tasks.bootsteps import refuse_what_cannot_work
from cgk_tasks.celery_tasks.supervisors import supervisor_of
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError, InvalidOptionError
from cgk_tasks.flow.new_run import queue_name
from cgk_tasks.in_process.controller import EmbeddedController, ask_to_stop, forget_stop, make_controller
from cgk_tasks.jobs.registry import all_jobs
from cgk_tasks.runs import logs
from cgk_tasks.worker import identity, interruption, process_state

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger("cgk_tasks.worker")

_UNWIND_SECONDS: Final = 1.0
"""An interrupted job has so long for its `finally` blocks."""
_LEAVE_SECONDS: Final = 10.0
"""The worker has so long to leave the record when no job runs any more."""
_LOOK_SECONDS: Final = 0.05
_TRY_AGAIN_SECONDS: Final = 5.0
_NAMED_JOBS: Final = 5

_here: list[EmbeddedWorker] = []
"""The worker of this process, if there is one."""
_lock = threading.Lock()


class EmbeddedWorker:
    """What `embedded_worker` makes. `with` and `async with` start it and stop it; so do `start()` and `stop()`."""

    def __init__(
        self, concurrency: int = 4, queues: Collection[str] | None = None, stop_seconds: float | None = None
    ) -> None:
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise InvalidOptionError("concurrency", f"must be a whole number from 1, not {concurrency!r}")
        if isinstance(queues, str):
            raise InvalidOptionError("queues", f"must be a list of names, not {queues!r}")
        if stop_seconds is not None and not stop_seconds >= 0:
            raise InvalidOptionError("stop_seconds", f"must be 0 or more seconds, not {stop_seconds!r}")
        self._concurrency = concurrency
        self._queues = [queue_name(name) for name in queues or ()]
        self._stop_seconds = stop_seconds
        self._stopping = threading.Event()
        self._pid = 0
        self._thread: threading.Thread | None = None
        self._app: Celery[Any]
        self._controller: EmbeddedController

    @property
    def is_running(self) -> bool:
        """Whether it is here: started in this process, and not ended."""
        return self._pid == os.getpid() and self._thread is not None and self._thread.is_alive()

    def start(self) -> Self:
        """Import the job modules and begin to work. It waits for servers that are not there yet, and the caller does
        not.

        Raises ConfigurationError without CGK_DATABASE_URL or CGK_BROKER_URL, in a process that has a worker or is one,
        and under gevent or eventlet.
        """
        import cgk_tasks

        settings = get_settings()
        _ = settings.database, settings.broker  # the errors say what is missing
        refuse_what_cannot_work()
        with _lock:
            self._app = cgk_tasks.app
            self._refuse_second()
            logs.hide_variables()
            register_application_events()
            self._controller = make_controller(self._app, self._concurrency, self._queues)
            register_application_events()  # those that the modules of jobs have defined
            self._pid = os.getpid()
            self._stopping.clear()
            _here[:] = [self]
            self._thread = threading.Thread(target=self._work, name="cgk-embedded-worker", daemon=True)
            self._thread.start()
        atexit.register(self.stop)
        _say_what_cannot_be_killed()
        return self

    def stop(self, timeout: float | None = None) -> bool:
        """Begin nothing more, and wait for the jobs that run; after `timeout` seconds interrupt them, as a worker does.

        What was interrupted goes on elsewhere, from its last checkpoint, and no attempt is counted. timeout:
        `stop_seconds`, if not given. Returns whether all of it has ended. A job that takes no interrupt, since it is in
        a call into C, keeps its run until that ends or the process does. A second stop waits for those.
        """
        thread = self._thread
        if thread is None or not self.is_running:
            return True
        atexit.unregister(self.stop)
        self._stopping.set()
        state = process_state.shared()
        state.stop()
        ask_to_stop(self._controller)
        seconds = self._grace_seconds if timeout is None else timeout
        thread.join(seconds)
        if thread.is_alive() and state.busy_pids():
            state.stop(grace_is_over=True)
            log.warning("stop_grace_over", grace_seconds=seconds, runs=len(state.held()))
            interruption.interrupt_all([os.getpid()])
            give_up = time.monotonic() + _UNWIND_SECONDS
            while state.busy_pids() and time.monotonic() < give_up:
                thread.join(_LOOK_SECONDS)
        if state.busy_pids():
            hint = "They did not end when they were interrupted. Others take their runs once this process has ended."
            log.warning("jobs_go_on_after_stop", runs=[run.id for run in state.held()], hint=hint)
            return False
        thread.join(_LEAVE_SECONDS)
        return not thread.is_alive()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def _grace_seconds(self) -> float:
        return get_settings().stop_grace_seconds if self._stop_seconds is None else self._stop_seconds

    def _refuse_second(self) -> None:
        if _here and _here[0].is_running:
            what = "stops, and a job of it still runs" if _here[0]._stopping.is_set() else "runs"  # noqa: SLF001 - ours
            raise ConfigurationError(
                f"This process has a worker inside already, which {what}.",
                hint="Start one, with the queues of both, and as many threads as both.",
            )
        state = process_state.known()
        if supervisor_of(self._app) is not None or (state is not None and state.is_pool_child):
            raise ConfigurationError(
                "This process is a Celery worker, which runs jobs by itself.",
                hint="Start the worker inside where the application serves, not where its jobs are imported.",
            )
        environment = detect_environment()
        if environment != "default":
            raise ConfigurationError(
                f"A worker inside the application does not run under {environment}, where no run can be cancelled or "
                "limited in time.",
                hint="Serve with threads or processes, or start `celery -A cgk_tasks worker` beside the application.",
            )

    def _work(self) -> None:
        """In its own thread: the worker, and another one after an error that has ended it."""
        self._app.set_current()
        try:
            self._controller.start()
            while self._controller.exitcode == 1 and not self._stopping.is_set():
                log.error("embedded_worker_failed", next_try_seconds=_TRY_AGAIN_SECONDS)
                if self._stopping.wait(_TRY_AGAIN_SECONDS):
                    return
                self._controller = make_controller(self._app, self._concurrency, self._queues)
                self._controller.start()
        except Exception:
            log.exception("embedded_worker_ended")
        finally:
            process_state.forget()
            identity.forget_worker_id()
            forget_stop(self._app)


def embedded_worker(
    concurrency: int = 4, *, queues: Collection[str] | None = None, stop_seconds: float | None = None
) -> EmbeddedWorker:
    """A worker in this process, for small installations: `celery worker` with threads, inside the application.

        with embedded_worker(concurrency=4):
            serve()

    It does what each worker does, and keeps the same limits together with all others: it claims, has heartbeats, takes
    over from workers that died, and dispatches if it leads. `async with` does the same. It installs no signal handlers,
    leaves the application's logging alone, and does not fork. One a process.

    concurrency: how many jobs run at once, in threads. queues: those of the settings, if not given. stop_seconds: how
    long its end waits for jobs that run, before it interrupts them; CGK_STOP_GRACE_SECONDS, if not given. Raises
    InvalidOptionError, and at its start ConfigurationError. A job in a thread cannot be killed at its hard time limit,
    and shares its memory with the application.
    """
    return EmbeddedWorker(concurrency, queues, stop_seconds)


def worker_lifespan(
    concurrency: int = 4, *, queues: Collection[str] | None = None, stop_seconds: float | None = None
) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """`embedded_worker` as the lifespan of an application of Starlette or FastAPI; the arguments are the same.

        api = FastAPI(lifespan=worker_lifespan(concurrency=4))

    The worker starts with each process that serves the application, and stops with it.
    """
    worker = EmbeddedWorker(concurrency, queues, stop_seconds)

    @asynccontextmanager
    async def lifespan(_application: object) -> AsyncIterator[None]:
        async with worker:
            yield

    return lifespan


def _say_what_cannot_be_killed() -> None:
    limited = [job.id for job in all_jobs() if job.timeout]
    if limited:
        hint = "A job in a thread is interrupted at its limits, between two steps of Python. Nobody can kill it."
        log.warning("hard_limits_do_not_kill", jobs=limited[:_NAMED_JOBS], number=len(limited), hint=hint)


def _forget_in_child() -> None:
    """A fork has no threads but one: the worker is its parent's."""
    if _here:
        _here.clear()
        process_state.forget()
        identity.forget_worker_id()


os.register_at_fork(after_in_child=_forget_in_child)
