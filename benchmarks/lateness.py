"""Scheduled runs: how long after their time they start."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime

from harness import OURS, TENANT, Line, Plan, Worker, percentile, repeat, wait_for_marks
from jobs import MarkStart
from sends import mark_ours

from cgk_tasks import SendItem, SendOptions, send_jobs

_AHEAD_SECONDS = 1.0
_SPREAD_SECONDS = 3.0


def measure(plan: Plan) -> list[Line]:
    def due_runs() -> list[float]:
        with Worker(*OURS) as worker:
            mark_ours(time.time())
            wait_for_marks(worker, 1)
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
        Line("due run, lateness, p99", None, ours_99, "ms", at_most=1000.0),
    ]
