"""Where the demo runs: private servers, settings of its own, and a tidy end whatever happens."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from cgk_tasks import embedded
from cgk_tasks.broker.publisher import close_publishers
from cgk_tasks.client import reset_job_client
from cgk_tasks.config import Settings, use_settings
from cgk_tasks.demo.worker import WorkerProcess
from cgk_tasks.sql.postgres import close_pools
from cgk_tasks.tenancy.registry import forget_known

_PROVIDER_VARIABLES = ("JOBS_PROVIDER", "JOB_PROVIDER")


class Terminated(BaseException):
    """SIGTERM, as an exception: everything that was started is stopped on the way out."""


@contextmanager
def terminable() -> Iterator[None]:
    """Raise Terminated inside the block on SIGTERM. Only the main thread is told of signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def terminate(_signal: int, _frame: FrameType | None) -> None:
        raise Terminated

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


@contextmanager
def own_settings(services: embedded.Services) -> Iterator[None]:
    """The settings of the demo, for this process and for those it starts; nothing of the caller's own application."""
    before = {
        name: value for name, value in os.environ.items() if name.startswith("CGK_") or name in _PROVIDER_VARIABLES
    }
    own = {
        "JOBS_PROVIDER": "celery",
        "CGK_DATABASE_URL": services.database_url,
        "CGK_BROKER_URL": services.broker_url,
        "CGK_DEFAULT_QUEUE": "demo",
        "CGK_JOB_MODULES": "cgk_tasks.demo.jobs",
        "CGK_TENANT_SETUP": "cgk_tasks.demo.shops:create_tables",
        "CGK_LOG_LEVEL": "WARNING",
        "CGK_LOG_FORMAT": "console",
    }
    try:
        _replace(before, own)
        use_settings(Settings(_env_file=None))
        forget_known()
        yield
    finally:
        reset_job_client()
        close_publishers()
        close_pools()
        forget_known()
        _replace(own, before)
        use_settings(None)


def _replace(old: dict[str, str], new: dict[str, str]) -> None:
    for name in old:
        os.environ.pop(name, None)
    os.environ.update(new)


@contextmanager
def running_workers(services: embedded.Services, workers: int, concurrency: int) -> Iterator[list[WorkerProcess]]:
    """Worker processes that have stopped when the block ends."""
    logs = services.folder / "logs"
    started: list[WorkerProcess] = []
    with ExitStack() as stack:
        try:
            for number in range(1, workers + 1):
                name = f"demo-worker-{number}"
                started.append(WorkerProcess(name, concurrency=concurrency, log=logs / f"{name}.log"))
                stack.callback(started[-1].wait_stopped)
            yield started
        finally:
            for worker in started:
                worker.ask_to_stop()
