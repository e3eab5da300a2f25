"""One send after another, each timed: `send_job` against `apply_async`.

No worker runs, so what is sent would soon be more than the window holds, and wait in lanes. A send to a queue with room
is what an application mostly has, and is compared; one to a crowded queue is the other line.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from harness import Line, Plan, environment, percentile, repeat
from plain_app import app
from sends import plain_order, send_ours

from cgk_tasks.admission.limits import LANES
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit

_WARM_UP = 30
_ROOM_FOR_ALL = "1000"
_NO_ROOM = "0.001"


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

    def timed_ours(window_seconds: str) -> list[float]:
        with environment({"CGK_WINDOW_SECONDS": window_seconds}):
            with autocommit() as connection:
                connection.execute("TRUNCATE cgk.runs, cgk.lanes CASCADE")
            for part in (CROWDED, LANES):
                current_runtime().drop(part)
            return timed(send_ours)

    task = app.tasks["do_nothing"]
    medians = repeat(
        plan.repeats,
        {
            "plain": lambda: timed(lambda number: task.apply_async(kwargs=plain_order(number))),
            "ours": lambda: timed_ours(_ROOM_FOR_ALL),
            "crowded": lambda: timed_ours(_NO_ROOM),
        },
    )
    (plain_50, plain_99), (ours_50, ours_99) = medians["plain"], medians["ours"]
    return [
        Line("one send, p50", plain_50, ours_50, "µs", at_most=1.0),
        Line("one send, p99", plain_99, ours_99, "µs"),
        Line("a send to a crowded queue, p50", plain_50, medians["crowded"][0], "µs"),
    ]
