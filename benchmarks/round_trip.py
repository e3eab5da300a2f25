"""A lone task and its answer: `trigger_and_wait` beside plain Celery's `get` with results in Redis."""

from __future__ import annotations

import time
from collections.abc import Callable

import plain_app
from harness import OURS, PLAIN_WITH_RESULTS, TENANT, Line, Plan, Worker, percentile, repeat
from sends import ours_order

from cgk_tasks import trigger_and_wait

_WARM_UP = 10


def measure(plan: Plan) -> list[Line]:
    order = ours_order(1)

    def ask_plain() -> None:
        kwargs = {"tenant_id": TENANT, "order_id": "o-1", "total_amount": 59.97}
        plain_app.with_results.tasks["do_nothing"].apply_async(kwargs=kwargs).get(timeout=30)

    def ask_ours() -> None:
        trigger_and_wait(order.event, order.payload).unwrap()

    def round_trips(app: tuple[str, str], ask: Callable[[], None]) -> list[float]:
        times = []
        with Worker(*app):
            for _ in range(_WARM_UP + plan.lone_jobs):
                begun = time.perf_counter()
                ask()
                times.append((time.perf_counter() - begun) * 1e3)
        measured = times[_WARM_UP:]
        return [percentile(measured, 50), percentile(measured, 99)]

    medians = repeat(
        plan.repeats,
        {
            "plain": lambda: round_trips(PLAIN_WITH_RESULTS, ask_plain),
            "ours": lambda: round_trips(OURS, ask_ours),
        },
    )
    (plain_50, plain_99), (ours_50, ours_99) = medians["plain"], medians["ours"]
    return [
        Line("send and wait for the result, p50", plain_50, ours_50, "ms", at_most=1.0),
        Line("send and wait for the result, p99", plain_99, ours_99, "ms"),
    ]
