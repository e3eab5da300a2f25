"""A `celery worker` of an application of the tests."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.support.waiting import wait_until


class WorkerProcess:
    def __init__(self, application: str, options: Sequence[str], log: Path, **environment: str) -> None:
        """options: what `celery worker` is given. environment: variables for it alone."""
        self._log, self._environment = log, {**os.environ, **environment}
        self._command = [sys.executable, "-m", "celery", "-A", application, "worker", *options]
        self.start()

    def start(self) -> None:
        """Again, after it has ended. Its log begins anew."""
        self._log.write_bytes(b"")
        with self._log.open("ab") as file:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdout=file, stderr=file, start_new_session=True
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def exit_code(self) -> int | None:
        return self._process.poll()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def wait_ready(self) -> None:
        def ready() -> bool:
            assert self.is_running, f"the worker exited with {self.exit_code}:\n{self.log[-2000:]}"
            return "ready." in self.log

        wait_until(ready, 60, "worker ready")

    def send(self, number: int) -> None:
        """A signal for the main process alone."""
        self._process.send_signal(number)

    def end(self) -> None:
        """SIGTERM; what does not end is killed, with its children."""
        if self.is_running:
            self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
