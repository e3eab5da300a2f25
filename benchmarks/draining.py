"""How fast a worker drains a backlog: tasks a second, from the start of the first to the end of the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from celery import Celery
from harness import OURS, TENANT, Worker, wait_for_marks

from cgk_tasks import SendItem, TenantEvent, send_jobs
from cgk_tasks.sql.postgres import autocommit

COMPLETED = """
SELECT count(*), extract(epoch FROM max(closed_at) - min(started_at))
  FROM cgk.run_history WHERE event = %s AND state = 'completed'
"""


def drain_plain(
    app: Celery, worker: tuple[str, str], task: str, arguments: Callable[[int], Mapping], count: int
) -> float:
    """The first and the last task of the queue tell the time; those between are the measured ones."""
    mark = {"tenant_id": TENANT, "since": 0.0}
    app.tasks["mark_start"].apply_async(kwargs=mark)
    for number in range(count):
        app.tasks[task].apply_async(kwargs=arguments(number))
    app.tasks["mark_start"].apply_async(kwargs=mark)
    with Worker(*worker) as running:
        first, last = sorted(wait_for_marks(running, 2))
    return count / (last - first)


def drain_ours(event: str, items: Iterable[SendItem | TenantEvent], count: int) -> float:
    """The record knows when each run was claimed, and when it was completed."""
    send_jobs(items)
    with Worker(*OURS) as running, autocommit() as connection:
        running.wait(lambda: connection.execute(COMPLETED, (event,)).fetchone()[0] == count)
        _, seconds = connection.execute(COMPLETED, (event,)).fetchone()
    return count / float(seconds)
