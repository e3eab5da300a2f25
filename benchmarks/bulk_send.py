"""Many sends at once: `send_jobs` (one transaction, one pipelined publish) against a loop of `apply_async`."""

from __future__ import annotations

import time

from harness import Line, Plan, repeat
from plain_app import app
from sends import ours_order, plain_order

from cgk_tasks import send_jobs


def measure(plan: Plan) -> list[Line]:
    count = plan.bulk

    def plain() -> list[float]:
        task = app.tasks["do_nothing"]
        begun = time.perf_counter()
        for number in range(count):
            task.apply_async(kwargs=plain_order(number))
        return [count / (time.perf_counter() - begun)]

    def ours() -> list[float]:
        begun = time.perf_counter()
        send_jobs(map(ours_order, range(count)))
        return [count / (time.perf_counter() - begun)]

    medians = repeat(plan.repeats, {"plain": plain, "ours": ours})
    return [Line(f"bulk send of {count:,}", *medians["plain"], *medians["ours"], "/s", at_least=20.0)]
