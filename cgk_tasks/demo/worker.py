"""The demo's workers: real processes, `celery -A cgk_tasks worker`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from pathlib import Path

_PATIENCE_SECONDS = 10.0


class WorkerProcess:
    """A worker with this process's environment. Its log goes to a file."""

    def __init__(self, name: str, *, concurrency: int, log: Path) -> None:
        self.name = name
        self.log = log
        command = [
            *(sys.executable, "-m", "celery", "-A", "cgk_tasks", "worker"),
            *("--concurrency", str(concurrency), "--hostname", f"{name}@%h"),
            *("--without-gossip", "--without-mingle"),  # nobody to talk to
        ]
        with log.open("wb") as output:
            # In the log's folder, where no application's settings are; in a session of its own, so that a Ctrl-C
            # reaches only the demo, which stops the worker in order.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=log.parent,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    def ask_to_stop(self) -> None:
        """Let it finish what it has begun, as a deployment would."""
        if self.exit_code is None:
            self._process.send_signal(signal.SIGTERM)

    def wait_stopped(self) -> None:
        """Until it has ended; killed with its children after 10 seconds, or at once when a Ctrl-C interrupts the wait."""
        try:
            self._process.wait(_PATIENCE_SECONDS)
        except BaseException as exc:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            if not isinstance(exc, subprocess.TimeoutExpired):
                raise

    def last_lines(self, count: int = 20) -> str:
        with self.log.open(encoding="utf-8", errors="replace") as lines:
            return "".join(deque(lines, count)).rstrip()
