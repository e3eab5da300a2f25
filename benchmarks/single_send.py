"""One send after another, each timed: `send_job` against `apply_async`."""

from __future__ import annotations

import time
from collections.abc import Callable

from harness import Line, Plan, percentile, repeat
from plain_app import app
from sends import plain_order, send_ours

_WARM_UP = 30


def measure(plan: Plan) -> list[Line]:
    def timed(send: Callable[[int], object]) -> list[float]:
        for number in range(_WARM_UP):
            send(number)
        times = []
        for number in range(plan.sends):
            begun = time.perf_counter()
            send(number)
            times.append((time.perf_counter() - begun) * 1e6)
        return [percentile(times, 50), percentile(times, 99)]

    task = app.tasks["do_nothing"]
    medians = repeat(
        plan.repeats,
        {
            "plain": lambda: timed(lambda number: task.apply_async(kwargs=plain_order(number))),
            "ours": lambda: timed(send_ours),
        },
    )
    (plain_50, plain_99), (ours_50, ours_99) = medians["plain"], medians["ours"]
    return [
        Line("one send, p50", plain_50, ours_50, "µs", at_most=1.0),
        Line("one send, p99", plain_99, ours_99, "µs"),
    ]
