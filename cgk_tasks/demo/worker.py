"""Workers for a while, of the demo and of the set-up: real processes, `celery -A cgk_tasks worker`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

_PATIENCE_SECONDS = 10.0


class WorkerProcess:
    """A worker with this process's environment. Its log goes to a file.

    folder: its working folder, by default the log's, where no application's settings are. environment: variables
    besides those of this process.
    """

    def __init__(
        self,
        name: str,
        *,
        concurrency: int,
        log: Path,
        folder: Path | None = None,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.log = log
        command = [
            # It ends with its parent: a demo that is killed leaves no worker behind.
            *(sys.executable, "-P", str(files("cgk_tasks.embedded") / "parent_death.py"), str(os.getpid())),
            *(sys.executable, "-m", "celery", "-A", "cgk_tasks", "worker"),
            *("--concurrency", str(concurrency), "--hostname", f"{name}@%h"),
            *("--without-gossip", "--without-mingle"),  # nobody to talk to
            *options,
        ]
        with log.open("wb") as output:
            # In a session of its own, so that a Ctrl-C reaches only the caller, which stops the worker in order.
            self._process = subprocess.Popen(  # noqa: S603
                command,
                cwd=folder or log.parent,
                env={**os.environ, **(environment or {})},
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
        """Until it has ended; killed with its children after 10 seconds,
        or at once when a Ctrl-C interrupts the wait.
        """
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
