"""The proof: a test event through a real worker, and its run from the record."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from cgk_tasks import embedded
from cgk_tasks.cli import application
from cgk_tasks.cli.output import say
from cgk_tasks.cli.run_details import print_run, run_details
from cgk_tasks.cli.setup import starter
from cgk_tasks.cli.setup.draft import Draft
from cgk_tasks.cli.setup.failure import TRIAL, SetupFailure
from cgk_tasks.cli.setup.found import BROKER, DATABASE
from cgk_tasks.cli.setup.servers import PRIVATE_FOLDER
from cgk_tasks.client import JobClient, create_job_client
from cgk_tasks.config import get_settings
from cgk_tasks.demo.worker import WorkerProcess
from cgk_tasks.events.registry import find_event
from cgk_tasks.flow.listeners import served_queues
from cgk_tasks.jobs.registry import jobs_for
from cgk_tasks.runs import store
from cgk_tasks.runs.models import RunStatus
from cgk_tasks.tenancy.platform import PLATFORM_TENANT, ensure_platform_tenant

PATIENCE_SECONDS = 60.0
"""A worker starts in two or three seconds."""

QUEUE = "cgk-setup"
"""A queue of its own: the application's workers may not know the event."""

_PROBE = "cgk_tasks.cli.setup.probe"
_LOOK_SECONDS = 0.1
_WORKER_LOG_LINES = 15


@contextmanager
def private_servers(draft: Draft) -> Iterator[None]:
    """The private servers of this folder for the time of the block, unless another process runs them already."""
    running = embedded.find() if (PRIVATE_FOLDER / "services.json").exists() else None
    with ExitStack() as stack:
        if running is None:
            say(f"Starting a private PostgreSQL and Redis, with their data in {PRIVATE_FOLDER}/")
            running = stack.enter_context(embedded.start())
        else:
            say("Using the private servers that run for this folder.")
        draft.try_out(DATABASE[0], running.database_url)
        draft.try_out(BROKER[0], running.broker_url)
        yield


def try_a_worker() -> None:
    """Send a test event, run it in a worker that is started for it, and show its run. Raises SetupFailure."""
    ensure_platform_tenant()
    event = _test_event()
    modules = [*get_settings().job_modules, _PROBE]
    with tempfile.TemporaryDirectory(prefix="cgk-setup-") as folder:
        say(f"Sending {event} to a worker that is started for it")
        worker = WorkerProcess(
            f"setup-{os.getpid()}",
            concurrency=1,
            log=Path(folder) / "worker.log",
            folder=Path.cwd(),
            options=("-Q", QUEUE),
            environment={"CGK_JOB_MODULES": ",".join(modules), "CGK_LOG_FORMAT": "console"},
        )
        try:
            client = application.client()
            status = _run(client, event, worker)
        finally:
            worker.ask_to_stop()
            worker.wait_stopped()
    say(f"Its run, as `cgk-tasks runs show {status.id}` prints it:\n")
    _show(status, store.listing(parent_id=status.id, limit=10))


def try_this_process() -> None:
    """The same with the provider `local`: the job runs in this process."""
    event = _test_event()
    say(f"Sending {event}; its job runs in this process. Its run, of which nothing is kept:\n")
    client = create_job_client("local")
    try:
        result = client.trigger_and_wait(event, {"tenantId": PLATFORM_TENANT}, timeout=PATIENCE_SECONDS)
        _show(client.get_run_status(result.run_id), ())
    finally:
        client.close()


def _test_event() -> str:
    """That of the starter module, where the application still has it."""
    application.load_jobs()
    if find_event(starter.EVENT) is not None and jobs_for(starter.EVENT):
        return starter.EVENT
    from cgk_tasks.cli.setup.probe import SetupTried

    return SetupTried.event_name


def _run(client: JobClient, event: str, worker: WorkerProcess) -> RunStatus:
    """The run, closed. A run that nobody ran is cancelled."""
    give_up = time.monotonic() + PATIENCE_SECONDS
    while QUEUE not in served_queues():  # else the send warns of a queue that no worker listens to
        _look_at(worker, give_up, "The worker does not listen yet")
        time.sleep(_LOOK_SECONDS)
    run_id = client.send(event, {"tenantId": PLATFORM_TENANT}, queue=QUEUE).id
    try:
        while not (status := client.get_run_status(run_id)).is_closed:
            _look_at(worker, give_up, f"The run is still {status.state}")
            time.sleep(_LOOK_SECONDS)
    except BaseException:
        client.cancel(run_id)
        raise
    return status


def _look_at(worker: WorkerProcess, give_up: float, what: str) -> None:
    """Raises SetupFailure where waiting for the worker is in vain."""
    if worker.exit_code is not None:
        raise _failure(f"The worker ended with exit code {worker.exit_code}.", worker)
    if time.monotonic() > give_up:
        raise _failure(f"{what} after {PATIENCE_SECONDS:g} s.", worker)


def _failure(what: str, worker: WorkerProcess) -> SetupFailure:
    say(worker.last_lines(_WORKER_LOG_LINES))
    return SetupFailure(TRIAL, f"{what} Its last lines are above. Once mended: cgk-tasks setup jobs --verify-only")


def _show(status: RunStatus, children: Sequence[RunStatus]) -> None:
    print_run(run_details(status, children, show_payload=False))
    if status.state != "completed":
        raise SetupFailure(TRIAL, f"The run ended as {status.state}. See its error above.")
