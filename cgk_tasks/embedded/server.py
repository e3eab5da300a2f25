"""What the two private servers have in common: start, stop, kill, and waiting until they answer."""

import os
import subprocess
import threading
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from cgk_tasks.embedded import processes
from cgk_tasks.errors import EmbeddedError

START_SECONDS = 30.0  # recovery after a crash included
_LOG_LINES = 15


class Server(ABC):
    """A private server. Only the process that started it may stop or start it; others see whether it runs."""

    title: str

    def __init__(self, *, data: Path, log: Path, owner_pid: int) -> None:
        self.data = data
        self.log = log
        self.owner_pid = owner_pid
        self._process: processes.Process | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect. It stays the same over restarts."""

    @property
    def pid(self) -> int | None:
        """The pid of the server's main process; None when it does not run."""
        if self._process is None or not processes.is_alive(self._process):
            self._process = processes.main_process(self.data)
        return None if self._process is None else int(self._process.pid)

    @property
    def running(self) -> bool:
        return self.pid is not None

    def start(self) -> None:
        """Start the server at its address and wait until it answers. Does nothing when it runs.

        Raises EmbeddedError, with the last lines of the server's log, when it does not come up in 30 seconds.
        """
        self._require_owner()
        with self._changing:
            if self.running:
                return
            self._prepare()
            log_start = self.log.stat().st_size if self.log.exists() else 0
            self._child = self._spawn()
            self._wait_until_ready(self._child, log_start)

    def stop(self) -> None:
        """Stop the server in order; its data stays. Does nothing when it does not run."""
        self._require_owner()
        with self._changing:
            processes.stop(self.data)
            self.reap()

    def kill(self) -> None:
        """Kill the server with all its processes (SIGKILL), as a power cut would: for fault tests."""
        self._require_owner()
        with self._changing:
            processes.kill(self.data)
            self.reap()

    def reap(self) -> None:
        """Collect the ended child process, so that no zombie stays."""
        if self._child is not None:
            self._child.wait()
            self._child = None
        self._process = None

    @abstractmethod
    def _prepare(self) -> None:
        """Bring the data folder in order before a start."""

    @abstractmethod
    def _command(self) -> list[str]:
        """The command line of the server, which stays in the foreground."""

    @abstractmethod
    def _answers(self) -> bool:
        """Whether a client can use the server now."""

    def _options(self) -> dict[str, Any]:
        return {}

    def _spawn(self) -> subprocess.Popen[bytes]:
        return self.run_in(self.data, self._command(), self.log)

    def run_in(self, folder: Path, command: list[str], log: Path) -> subprocess.Popen[bytes]:
        """Run a command in a folder, in a session of its own: a Ctrl-C in the terminal does not reach it."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        environment["LC_ALL"] = "C"  # a locale that this machine lacks would stop PostgreSQL
        with log.open("ab") as output:
            return subprocess.Popen(  # noqa: S603
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._options(),
            )

    def _wait_until_ready(self, child: subprocess.Popen[bytes], log_start: int) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if child.poll() is not None:
                raise self._failure(f"ended with exit code {child.returncode} while starting", log_start)
            if time.monotonic() > deadline:
                processes.kill(self.data)
                self.reap()
                raise self._failure(f"did not answer within {START_SECONDS:.0f} seconds", log_start)
            time.sleep(processes.POLL_SECONDS)

    def _failure(self, what: str, log_start: int) -> EmbeddedError:
        with self.log.open("rb") as file:
            file.seek(log_start)
            lines = file.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        shown = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        return EmbeddedError(f"The private {self.title} {what}.", hint=f"The end of its log, {self.log}:\n{shown}")

    def _require_owner(self) -> None:
        if os.getpid() != self.owner_pid:
            raise EmbeddedError(
                f"The private {self.title} in {self.data} belongs to process {self.owner_pid}: only that process "
                "can start or stop it."
            )
