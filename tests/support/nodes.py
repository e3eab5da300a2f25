"""Nodes for pytest-celery that are local processes.

pytest-celery talks to its nodes through "containers". These have the same methods and run no Docker: a private server
of `cgk_tasks.embedded`, a private RabbitMQ, or a worker process.
"""

import os
import signal
from collections.abc import Sequence
from typing import Protocol

import psutil
from celery import Celery
from pytest_celery import CeleryTestBackend, CeleryTestBroker, CeleryTestWorker

from tests.support.workers import Worker


class Server(Protocol):
    """What `cgk_tasks.embedded` and `tests.support.rabbitmq` offer."""

    url: str
    running: bool

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


class LocalContainer:
    """What every container is asked for. Its processes are real, and so are the signals it sends them."""

    def __init__(self, name: str, celeryconfig: dict[str, str]) -> None:
        self.name = name
        self.id = name
        self._celeryconfig = celeryconfig

    @property
    def celeryconfig(self) -> dict[str, str]:
        return dict(self._celeryconfig)

    def reload(self) -> None:
        """Docker's objects remember the state of their container; these look."""

    def teardown(self) -> None:
        """The fixtures that started the processes end them."""


class ServerContainer(LocalContainer):
    """A PostgreSQL, Redis or RabbitMQ."""

    def __init__(self, name: str, server: Server, celery_url: str) -> None:
        super().__init__(name, {"url": celery_url, "host_url": celery_url})
        self.server = server

    @property
    def status(self) -> str:
        return "running" if self.server.running else "exited"

    def ready(self) -> bool:
        return self.server.running

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """SIGKILL takes all its processes at once; anything else is an orderly stop."""
        if signal == "SIGKILL":
            self.server.kill()
        else:
            self.server.stop()

    def start(self) -> None:
        self.server.start()

    def restart(self, timeout: float = 0) -> None:
        self.server.stop()
        self.server.start()


class WorkerContainer(LocalContainer):
    """A `celery worker`: its main process and the children of its pool."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(worker.name, {})
        self.worker = worker
        self._read = 0

    @property
    def status(self) -> str:
        return "running" if self.worker.process.poll() is None else "exited"

    def ready(self) -> bool:
        self.worker.wait_ready()
        return True

    def logs(self) -> str:
        """What it logged since `forget_logs`."""
        return self.worker.log[self._read :]

    def forget_logs(self) -> None:
        self._read = len(self.worker.log)

    def kill(self, signal: str | int = "SIGKILL") -> None:
        """Signal the main process alone, as the kernel's out-of-memory killer and deployments do."""
        self.worker.process.send_signal(number(signal))
        if number(signal) == number("SIGKILL"):
            self.worker.process.wait()

    def restart(self, timeout: float = 0) -> None:
        if self.status == "running":
            self.worker.stop()
        self.worker.restart().wait_ready()

    def teardown(self) -> None:
        """End everything at once: what a worker does about SIGTERM has tests of its own."""
        kill_group(self.worker.pid)
        self.worker.process.wait()


class Broker(CeleryTestBroker):
    """Redis or RabbitMQ."""

    def start(self) -> None:
        self.container.start()


class Postgres(CeleryTestBackend):
    """PostgreSQL: the record of runs, which our result backend reads."""

    def start(self) -> None:
        self.container.start()

    def freeze(self) -> None:
        """Stop every process of the server without ending it: it neither answers nor refuses."""
        for process in self._processes():
            process.suspend()

    def thaw(self) -> None:
        for process in self._processes():
            process.resume()

    def _processes(self) -> Sequence[psutil.Process]:
        main = psutil.Process(self.container.server.pid)
        return [main, *main.children(recursive=True)]


class WorkerNode(CeleryTestWorker):
    """A worker process with children."""

    def __init__(self, worker: Worker, app: Celery | None = None) -> None:
        super().__init__(WorkerContainer(worker), app)

    @property
    def worker(self) -> Worker:
        return self.container.worker

    def children(self) -> list[psutil.Process]:
        return self.worker.children()

    def kill_group(self) -> None:
        """SIGKILL of the main process and its children together, as when a machine goes away."""
        kill_group(self.worker.pid)
        self.worker.process.wait()

    def wait_exit(self, timeout: float = 15.0) -> int:
        """The exit code. Raises subprocess.TimeoutExpired."""
        return self.worker.process.wait(timeout)


def number(name: str | int) -> int:
    return name if isinstance(name, int) else signal.Signals[name].value


def kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
