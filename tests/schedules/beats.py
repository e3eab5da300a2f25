"""Real beat processes."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent


class BeatProcess:
    """`celery -A cgk_tasks beat` with the settings of this process."""

    def __init__(self, modules=(), **env):
        self.log_path = Path(tempfile.mkstemp(prefix="cgk-beat-", suffix=".log")[1])
        variables = {
            **os.environ, "CGK_JOB_MODULES": ",".join(modules), "PYTHONPATH": str(ROOT), "CGK_LOG_FORMAT": "json",
            **env,
        }  # fmt: skip
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "celery", "-A", "cgk_tasks", "beat", "--pidfile="],
                env=variables, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    @property
    def log(self):
        return self.log_path.read_text(errors="replace")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode
