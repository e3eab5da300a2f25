"""How fast a worker drains a backlog: tasks a second, from the start of the first to the end of the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from celery import Celery
from harness import OURS, TENANT, Worker, wait_for_marks

from cgk_tasks import SendItem, TenantEvent, send_jobs
from cgk_tasks.sql.postgres import autocommit

COMPLETED = "SELECT count(*) FROM cgk.run_history WHERE event = %s AND state = 'completed'"

# The record has the time of each run, and a packet is claimed before its first one begins. What the first packet of a
# process took in all lies before its end, which is written for all of its runs within milliseconds.
SPAN = """
WITH ended AS (SELECT worker_pid, started_at, closed_at FROM cgk.run_history WHERE event = %s AND state = 'completed'),
     firsts AS (SELECT worker_pid, min(closed_at) AS first_end FROM ended GROUP BY worker_pid),
     claims AS (SELECT min(first_end) - sum(closed_at - started_at) AS claimed_at
                  FROM ended JOIN firsts USING (worker_pid)
                 WHERE closed_at < first_end + interval '5 ms' GROUP BY worker_pid)
SELECT extract(epoch FROM (SELECT min(claimed_at) FROM claims))::float8,
       extract(epoch FROM (SELECT max(closed_at) FROM ended))::float8
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
    send_jobs(items)
    with Worker(*OURS) as running, autocommit() as connection:
        running.wait(lambda: connection.execute(COMPLETED, (event,)).fetchone()[0] == count)
        begun, ended = connection.execute(SPAN, (event,)).fetchone()
    return count / (ended - begun)
