"""Scheduled runs: how long after their time they start.

Both children of the worker have executed a run before. The first run of a child connects it, which is part of a start
and takes some ten milliseconds; one of 200 runs would decide about the last hundredth.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

from harness import OURS, TENANT, Line, Plan, Worker, Workers, percentile, repeat, wait_for_marks
from jobs import MarkStart
from sends import mark_ours

from cgk_tasks import SendItem, SendOptions, send_jobs
from cgk_tasks.sql.postgres import autocommit

_WARM_UP_RUNS = 16
"""At once: more than one child takes up one after another."""
_AHEAD_SECONDS = 1.0
_SPREAD_SECONDS = 3.0
_CHILDREN_AT_WORK = "SELECT count(DISTINCT worker_pid) FROM cgk.run_history"


def measure(plan: Plan) -> list[Line]:
    def due_runs() -> list[float]:
        with Worker(*OURS) as worker:
            warm_up(worker)
            begin = time.time() + _AHEAD_SECONDS
            due = [begin + random.uniform(0, _SPREAD_SECONDS) for _ in range(plan.due_runs)]
            send_jobs(
                SendItem(
                    MarkStart(tenant_id=TENANT, since=at),
                    options=SendOptions(run_at=datetime.fromtimestamp(at, UTC)),
                )
                for at in due
            )
            late = wait_for_marks(worker, plan.due_runs)
        return [percentile(late, 50) * 1e3, percentile(late, 99) * 1e3]

    ours_50, ours_99 = repeat(plan.repeats, {"ours": due_runs})["ours"]
    return [
        Line("due run, lateness, p50", None, ours_50, "ms"),
        Line("due run, lateness, p99", None, ours_99, "ms", at_most=100.0),
    ]


def warm_up(worker: Workers) -> None:
    """Have both children execute something."""
    with autocommit() as connection:
        while connection.execute(_CHILDREN_AT_WORK).fetchone()[0] < 2:
            for _ in range(_WARM_UP_RUNS):
                mark_ours(time.time())
            wait_for_marks(worker, _WARM_UP_RUNS)
