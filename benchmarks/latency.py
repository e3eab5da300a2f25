"""A lone job on an idle worker: from before the send to the first line of the job."""

from __future__ import annotations

import time

from harness import OURS, PLAIN, Line, Plan, Worker, percentile, repeat, wait_for_marks
from sends import Send, mark_ours, mark_plain

_WARM_UP = 10
_LOOK_SECONDS = 0.003


def measure(plan: Plan) -> list[Line]:
    def lone_jobs(app: tuple[str, str], send: Send) -> list[float]:
        with Worker(*app) as worker:
            times = []
            for _ in range(_WARM_UP + plan.lone_jobs):
                send(time.time())
                times += wait_for_marks(worker, 1, _LOOK_SECONDS)
        measured = [seconds * 1e3 for seconds in times[_WARM_UP:]]
        return [percentile(measured, 50), percentile(measured, 99)]

    medians = repeat(
        plan.repeats,
        {"plain": lambda: lone_jobs(PLAIN, mark_plain), "ours": lambda: lone_jobs(OURS, mark_ours)},
    )
    (plain_50, plain_99), (ours_50, ours_99) = medians["plain"], medians["ours"]
    return [
        Line("lone job, send to start, p50", plain_50, ours_50, "ms", at_most=1.0),
        Line("lone job, send to start, p99", plain_99, ours_99, "ms", at_most=1.0),
    ]
