"""Other processes that own private servers, and how to wait for what becomes of these."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from cgk_tasks.embedded import processes

REPOSITORY = Path(__file__).parents[2]
OWNER_SCRIPT = Path(__file__).with_name("owner_program.py")


def wait_until(condition: Callable[[], object], *, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true in time"
        time.sleep(0.02)


class Owner:
    """Another process that starts the servers of a folder and then does as it is told."""

    def __init__(self, folder: Path, *how: str, prefix: tuple[str, ...] = ()) -> None:
        self.child = subprocess.Popen(
            [*prefix, sys.executable, str(OWNER_SCRIPT), str(folder), *how],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.child.pid

    def report(self) -> dict:
        """What the owner says once it has tried to start: {"folder", "database_url", ...} or {"error"}."""
        line = self.child.stdout.readline()
        assert line, self.child.stderr.read()
        return json.loads(line)

    def leave(self) -> None:
        """Let the owner reach the end of its program."""
        self.child.communicate("\n")


def servers_in(folder: Path) -> list:
    return processes.server_processes(folder / "postgres", folder / "redis")
