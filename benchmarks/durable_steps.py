"""Steps a second of durable workflows, beside DBOS Transact: a backlog of workflows with ten steps that do nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import version

from dbos import DBOSClient
from dbos_app import QUEUES, system_database_url
from harness import (
    FOLDER,
    OURS,
    PACKETS,
    TENANT,
    Plan,
    Table,
    Workers,
    celery_worker,
    environment,
    repeat,
    wait_for_marks,
)
from jobs import Trip

from cgk_tasks import send_jobs
from cgk_tasks.sql.postgres import autocommit

_STEPS = 10

_DBOS = [[sys.executable, "dbos_app.py"]] * 2

Enqueue = Callable[[int], object]


def measure(plan: Plan) -> Table:
    make_dbos_tables()
    client = DBOSClient(system_database_url=system_database_url())
    with environment(dict([PACKETS])), closing_dbos(client) as dbos:
        measured = {"cgk_tasks": partial(once, plan, enqueue_ours, [celery_worker(*OURS)])}
        for name, settings in QUEUES.items():
            dbos.register_queue(name, **settings)
            measured[name] = partial(once, plan, partial(enqueue_dbos, dbos, name), _DBOS)
        figures = repeat(plan.repeats, measured)
    return Table(
        "durable_steps",
        "Durable steps",
        f"A backlog of {plan.workflows:,} workflows of {_STEPS} steps that do nothing, from the first that begins to "
        "the last that ends. Both keep each step in the same PostgreSQL before the next one begins. "
        f"Versions: cgk-tasks {version('cgk-tasks')}, dbos {version('dbos')}.",
        ("system", "steps", "× cgk_tasks"),  # noqa: RUF001
        [_row(name, value, figures["cgk_tasks"][0]) for name, (value,) in sorted(figures.items(), key=_fastest)],
    )


def _fastest(one: tuple[str, Sequence[float]]) -> float:
    return -one[1][0]


def _row(name: str, value: float, ours: float) -> list[str]:
    what = f"DBOS Transact<br>two processes, {name}" if name in QUEUES else f"{name}<br>`celery worker -c 2`, prefork"
    return [what, f"{value:,.0f}/s", f"{value / ours:.2f} ×"]  # noqa: RUF001


def once(plan: Plan, enqueue: Enqueue, commands: Sequence[Sequence[str]]) -> Sequence[float]:
    with autocommit() as connection:
        connection.execute("TRUNCATE dbos.workflow_status CASCADE")
    return [steps_a_second(enqueue, commands, plan.workflows)]


@contextmanager
def closing_dbos(client: DBOSClient) -> Iterator[DBOSClient]:
    try:
        yield client
    finally:
        client.destroy()


def steps_a_second(enqueue: Enqueue, commands: Sequence[Sequence[str]], workflows: int) -> float:
    """The workflows wait already when the workers start."""
    enqueue(workflows)
    with Workers(*commands) as workers:
        marks = sorted(wait_for_marks(workers, 2 * workflows))
    return workflows * _STEPS / (marks[-1] - marks[0])


def enqueue_ours(count: int) -> None:
    send_jobs(Trip(tenant_id=TENANT, steps=_STEPS) for _ in range(count))


def enqueue_dbos(dbos: DBOSClient, queue: str, count: int) -> None:
    for _ in range(count):
        dbos.enqueue({"workflow_name": "trip", "queue_name": queue}, _STEPS)


def make_dbos_tables() -> None:
    code = "import dbos_app; dbos_app.launch(); dbos_app.DBOS.destroy()"
    subprocess.run([sys.executable, "-c", code], cwd=FOLDER, check=True, stdout=sys.stderr)
