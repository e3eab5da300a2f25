"""The session of `cgk-tasks dev`: services, migrations, then the programs, until Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cgk_tasks import embedded
from cgk_tasks.cli.dev import loaded
from cgk_tasks.cli.dev.lines import Lines
from cgk_tasks.cli.dev.only_session import only_session_of
from cgk_tasks.cli.dev.program import Program
from cgk_tasks.cli.dev.reload import LOADED_FILES, changes, watched_files
from cgk_tasks.cli.dev.services import servers
from cgk_tasks.cli.migrate import bring_up_to_date
from cgk_tasks.config import get_settings
from cgk_tasks.sql import postgres
from cgk_tasks.tenancy.platform import PLATFORM_TENANT
from cgk_tasks.tenancy.registry import all_tenants

_LOOK_AFTER_SERVICES_SECONDS = 2.0
_SCHEDULE_FILE = Path(".cgk") / "celerybeat-schedule"

_HOW_TO_USE = """\
In a second terminal, in this folder:
  cgk-tasks tenants add acme
  cgk-tasks events list --jobs    # what you have jobs for
  cgk-tasks events show EVENT     # its fields, and how to send it
  cgk-tasks runs list
  cgk-tasks doctor
Ctrl-C stops everything.
"""


@dataclass(frozen=True)
class Plan:
    """What to run. concurrency: jobs at the same time."""

    beat: bool = True
    flower: bool = True
    concurrency: int = 2
    flower_port: int = 5555


def run(plan: Plan) -> None:
    """Run the session until SIGINT, SIGTERM or SIGHUP. Nothing is left running, whatever happens."""
    with only_session_of(Path.cwd()):
        _run(plan)


def _run(plan: Plan) -> None:
    lines = Lines()
    lines.plain(_HOW_TO_USE)
    with servers(lines) as services:
        revision = bring_up_to_date()
        lines.show("services", f"tables at revision {revision}")
        _tell_what_is_missing(lines)
        postgres.close_pools()
        asyncio.run(_Session(_programs(plan, lines), lines, services).run())


def _tell_what_is_missing(lines: Lines) -> None:
    if all(tenant.id == PLATFORM_TENANT for tenant in all_tenants()):
        lines.show("services", "no tenant is registered yet: cgk-tasks tenants add acme")
    if not get_settings().job_modules:
        lines.show("worker", "CGK_JOB_MODULES is not set: name your modules with @define_job, e.g. in .env.local")


def _programs(plan: Plan, lines: Lines) -> list[Program]:
    """In the order in which they are stopped: first what sends, then what works, then what looks on."""
    os.environ.setdefault("CGK_LOG_FORMAT", "console")
    celery = ["-m", "celery", "--quiet", "-A", "cgk_tasks"]
    worker = [
        *celery,
        "worker",
        "--concurrency",
        str(plan.concurrency),
        "--hostname",
        f"dev-{os.getpid()}@%h",
        "-I",
        loaded.__name__,
    ]
    worker += ["--without-gossip", "--without-mingle"]
    os.environ.setdefault("CGK_STOP_GRACE_SECONDS", "5")  # somebody waits for the reload
    os.environ[loaded.VARIABLE] = str(Path.cwd() / LOADED_FILES)
    programs = []
    if plan.beat:
        _SCHEDULE_FILE.parent.mkdir(exist_ok=True)
        beat = [*celery, "beat", "--schedule", str(_SCHEDULE_FILE), "--pidfile", ""]
        programs.append(Program("beat", beat, lines))
    # -E: events for Flower.
    command = [*worker, "-E"] if plan.flower else worker
    programs.append(Program("worker", command, lines, restarts=True))
    if plan.flower:
        port = _free_port(plan.flower_port)
        # A session of one person on one machine. Where there are users, they log in all the same.
        if not _has_dashboard_users():
            os.environ.setdefault("CGK_DASHBOARD_OPEN_ON_LOOPBACK", "true")
        # Only errors: at every start it lists all tasks, and asks a worker that is not there yet.
        flower = [*celery, "flower", "--address=127.0.0.1", f"--port={port}", "--logging=error"]
        programs.append(Program("flower", flower, lines))
        lines.show("flower", f"http://127.0.0.1:{port}/overview")
    return programs


def _has_dashboard_users() -> bool:
    from cgk_tasks.dashboard.access.users import has_passwords

    try:
        return has_passwords() or get_settings().dashboard_users_file.exists()
    finally:
        postgres.close_pools()


def _free_port(wanted: int) -> int:
    """The wanted port of 127.0.0.1, or any free one where it is taken."""
    for port in (wanted, 0):
        with closing(socket.socket()) as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(candidate.getsockname()[1])
    return wanted


class _Session:
    """The programs while they run. The first signal stops them in order, a second one kills them."""

    def __init__(self, programs: Sequence[Program], lines: Lines, services: embedded.Services | None) -> None:
        self._programs = programs
        self._lines = lines
        self._services = services
        self._stop = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._on_signal)
        running = [asyncio.create_task(program.run()) for program in self._programs]
        watching = [asyncio.create_task(self._reload_on_change())]
        if self._services is not None:
            watching.append(asyncio.create_task(self._look_after(self._services)))
        try:
            await self._stop.wait()
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)
            for program in self._programs:
                await program.stop()
            await asyncio.gather(*running, return_exceptions=True)

    def _on_signal(self) -> None:
        if self._stop.is_set():
            for program in self._programs:
                program.kill()
            return
        self._lines.plain("\nStopping; once more stops at once.")
        self._stop.set()

    async def _reload_on_change(self) -> None:
        worker = next(program for program in self._programs if program.name == "worker")
        folder = Path.cwd()
        async for changed in changes(folder, lambda: watched_files(folder)):
            self._lines.show("worker", f"{changed} changed, reloading")
            await worker.reload()

    async def _look_after(self, services: embedded.Services) -> None:
        """Say it when a private server has gone; the worker waits for it, so nothing else has to stop."""
        while await asyncio.to_thread(lambda: services.running):  # noqa: ASYNC110 - processes send no event
            await asyncio.sleep(_LOOK_AFTER_SERVICES_SECONDS)
        logs = services.folder / "logs"
        self._lines.show("services", f"a server has ended, see {logs}. Stop with Ctrl-C and start again.")
