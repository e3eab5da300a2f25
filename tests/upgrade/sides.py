"""Processes of the old and of the new code, on one database and one Redis."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
from psycopg.rows import tuple_row

from tests.support.waiting import wait_exit, wait_until

APPLICATION = Path(__file__).parent / "application"

SETTINGS = {
    "CGK_JOB_MODULES": "upgrade_jobs",
    "CGK_TENANT_SETUP": "upgrade_jobs:connect_tenant",
    "CGK_LOG_FORMAT": "json",
    "CGK_HEARTBEAT_SECONDS": "0.5",
    "CGK_WORKER_TIMEOUT_SECONDS": "5",
    "CGK_DISPATCH_INTERVAL_SECONDS": "0.1",
    "CGK_HARD_TIMEOUT_GRACE_SECONDS": "5",
    "CGK_HAND_OVER_PATIENCE_SECONDS": "1",  # under the name that every release knows
}


class Process:
    """A process with its log."""

    def __init__(self, name: str, command: list[str], env: dict[str, str], folder: Path) -> None:
        self.name = name
        self.log_path = folder / f"{name}.log"
        with self.log_path.open("ab") as log:
            # Not in the repository: Celery puts the working folder before PYTHONPATH.
            self.process = subprocess.Popen(
                command, env=env, cwd=folder, stdout=log, stderr=log, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def stop(self) -> None:
        """SIGTERM, as a deployment would; it must end by itself, and well."""
        self.process.send_signal(signal.SIGTERM)
        assert wait_exit(self.process, 60) == 0, (
            f"{self.name} exited with {self.process.returncode}:\n{self.log[-4000:]}"
        )

    def kill(self) -> None:
        """SIGKILL of the process and its children, as when its machine goes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Whatever state it is in."""
        if self.process.poll() is None:
            self.kill()


@dataclass
class Side:
    """`old` or `new`: which code its processes run, and those that were started."""

    name: str
    code: Path
    database_url: str
    broker_url: str
    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    """Besides those of both sides."""
    started: list[Process] = field(default_factory=list)

    @property
    def env(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CGK_")}
        return {
            **kept,
            **SETTINGS,
            **self.settings,
            "JOBS_PROVIDER": "celery",
            "CGK_DATABASE_URL": self.database_url,
            "CGK_BROKER_URL": self.broker_url,
            "PYTHONPATH": f"{self.code}{os.pathsep}{APPLICATION}",
            "UPGRADE_SIDE": self.name,
            "UPGRADE_CODE": str(self.code),
            "UPGRADE_JOURNAL": str(self.folder / "journal"),
        }

    def run(self, *words: str) -> None:
        """Run Python with this side's code until it ends, well."""
        process = self._start(f"{self.name}-{words[-1].partition(' ')[0]}", [sys.executable, *words])
        assert wait_exit(process.process, 120) == 0, f"{' '.join(words)} ({self.name}):\n{process.log}"

    def assert_no_process_failed(self) -> None:
        for process in self.started:
            assert process.process.poll() in {None, 0, -signal.SIGKILL}, (
                f"{process.name} failed:\n{process.log[-4000:]}"
            )

    def migrate(self) -> None:
        self.run("-m", "cgk_tasks.cli", "migrate")

    def finish(self) -> None:
        """Once the older processes have been silent for as long as a worker may be."""
        seconds = "SELECT extract(epoch FROM now()) - last_value FROM cgk.written_in_old_form"
        silent = float(SETTINGS["CGK_WORKER_TIMEOUT_SECONDS"]) + 1
        wait_until(lambda: query(self.database_url, seconds)[0][0] > silent, 30, "no write in the old form")
        self.run("-m", "cgk_tasks.cli", "migrate", "--finish")

    def add_tenants(self, *names: str) -> None:
        self.run("-c", f"from cgk_tasks.tenancy import add_tenant; [add_tenant(name) for name in {names}]")

    def workers(self, *names: str) -> list[Process]:
        """Workers with two children each, once their heartbeats are on record and their consumers are connected."""
        started = [self._worker(f"{self.name}-{name}") for name in names]

        def are_ready() -> bool:
            for worker in started:
                assert worker.process.poll() is None, f"{worker.name} exited:\n{worker.log[-4000:]}"
            known = {name.partition("@")[0] for (name,) in query(self.database_url, "SELECT name FROM cgk.workers")}
            return all(worker.name in known and "ready." in worker.log for worker in started)

        wait_until(are_ready, 90, f"{', '.join(names)} ready")
        return started

    def _worker(self, name: str) -> Process:
        celery = [sys.executable, "-m", "celery", "-A", "cgk_tasks", "worker", "-c", "2", "-n", f"{name}@test"]
        return self._start(name, [*celery, "--without-gossip", "--without-mingle"])

    def sender(self) -> Process:
        program = str(APPLICATION / "upgrade_sender.py")
        return self._start(f"{self.name}-sender", [sys.executable, program, str(self.folder / f"{self.name}.accepted")])

    def beat(self) -> Process:
        return self._start(
            f"{self.name}-beat", [sys.executable, "-m", "celery", "-A", "cgk_tasks", "beat", "--pidfile="]
        )

    def _start(self, name: str, command: list[str]) -> Process:
        process = Process(name, command, self.env, self.folder)
        self.started.append(process)
        return process


def query(url: str, statement: str) -> list[tuple]:
    """By psycopg alone: what the record says must not depend on the code that is tested."""
    with psycopg.connect(url, autocommit=True, row_factory=tuple_row) as connection:
        return connection.execute(statement).fetchall()


def leader(url: str) -> str | None:
    """The side whose worker leads, as its name begins."""
    rows = query(
        url,
        "SELECT w.name FROM cgk.leases l JOIN cgk.workers w ON w.id = l.holder WHERE l.name = 'dispatcher' AND "
        "l.expires_at > now()",
    )
    return rows[0][0].partition("@")[0] if rows else None
