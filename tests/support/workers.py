"""Real Celery worker processes."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from cgk_tasks.config import get_settings
from cgk_tasks.sql.postgres import autocommit, fetch, statements
from tests.support.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent


class Worker:
    """A `celery -A cgk_tasks worker` process with the settings of this process."""

    def __init__(
        self, modules: Sequence[str], concurrency: int = 2, pool: str = "prefork", gossips: bool = False, **env: str
    ) -> None:
        """gossips: as `celery worker` does unless it is told otherwise."""
        self.log_path = Path(tempfile.mkstemp(prefix="cgk-worker-", suffix=".log")[1])
        self.name = f"w{os.urandom(4).hex()}@test"
        self._env = {
            **os.environ,
            "CGK_JOB_MODULES": ",".join(modules),
            "PYTHONPATH": str(ROOT),
            "CGK_LOG_FORMAT": "json",
            "CGK_STOP_GRACE_SECONDS": "60",  # on a busy machine short jobs take long
            **env,
        }
        self._command = [
            sys.executable, "-m", "celery", "-A", "cgk_tasks", "worker", "-c", str(concurrency), "-P", pool,
            "-n", self.name, "-Q", self._env.get("CGK_DEFAULT_QUEUE") or get_settings().default_queue,
            *(() if gossips else ("--without-gossip", "--without-mingle")),
        ]  # fmt: skip
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self._command, env=self._env, cwd=ROOT, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def wait_ready(self, timeout: float = 30.0) -> "Worker":
        """Until its heartbeat is on record and its consumer is connected."""

        def ready() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the worker exited with {self.process.returncode}:\n{self.log[-4000:]}")
            return "ready." in self.log and any(row["name"] == self.name for row in list_workers())

        wait_until(ready, timeout, "worker ready")
        return self

    def children(self) -> list[psutil.Process]:
        """The processes of the pool."""
        return psutil.Process(self.pid).children()

    def kill(self) -> None:
        """SIGKILL of the main process alone, as the kernel's out-of-memory killer would."""
        self.process.kill()
        self.process.wait()

    def restart(self) -> "Worker":
        """A new process with the same settings."""
        self.process = self._start()
        return self

    def stop(self, timeout: float = 15.0) -> int:
        """SIGTERM, as a deployment would; returns the exit code. What does not end is killed with its children."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            return self.process.wait()


def list_workers() -> list[dict]:
    with autocommit() as connection:
        return fetch(connection, statements("dispatch")["list_workers"])


@contextmanager
def running_worker(modules: Sequence[str] = (), **options) -> Iterator[Worker]:
    worker = Worker(modules, **options)
    try:
        yield worker.wait_ready()
    finally:
        worker.stop()
