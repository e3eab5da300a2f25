"""An application with a worker inside: a process that works until its standard input ends."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from cgk_tasks.config import get_settings
from tests.support.waiting import wait_until
from tests.support.workers import ROOT, list_workers

PROGRAM = """
import sys
from cgk_tasks import embedded_worker

with embedded_worker(concurrency=int(sys.argv[1]), stop_seconds=float(sys.argv[2])):
    print("application started", flush=True)
    sys.stdin.read()
print("application goes on", flush=True)
"""


class Application:
    def __init__(self, concurrency=2, stop_seconds=30.0, modules=("tests.support.jobs",), program=PROGRAM, **env):
        self._log = Path(tempfile.mkstemp(prefix="cgk-application-", suffix=".log")[1])
        environment = os.environ | {
            "CGK_JOB_MODULES": ",".join(modules), "PYTHONPATH": str(ROOT),
            "CGK_DEFAULT_QUEUE": get_settings().default_queue, **env,
        }  # fmt: skip
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, str(concurrency), str(stop_seconds)], cwd=ROOT, env=environment,
                stdin=subprocess.PIPE, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def pid(self):
        return self.process.pid

    @property
    def log(self):
        return self._log.read_text(errors="replace")

    def wait_ready(self):
        """Until its worker's heartbeat is on record."""

        def ready():
            assert self.process.poll() is None, self.log
            return any(row["name"].startswith(f"embedded-{self.pid}@") for row in list_workers())

        wait_until(ready, 30, "the application's worker is on record")
        return self

    def ask_to_end(self):
        self.process.stdin.close()
        return self

    def wait_end(self, seconds=20.0):
        wait_until(lambda: self.process.poll() is not None, seconds, f"the application ended:\n{self.log}")
        return self.process.returncode

    def kill(self):
        """SIGKILL."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdin.close()
