"""An idle worker: its memory, and the time from its start to its first job, which waits for it."""

from __future__ import annotations

import time

from harness import OURS, PLAIN, Line, Plan, Worker, environment, repeat, wait_for_marks
from processes import kilobytes, with_children
from sends import Send, mark_ours, mark_plain
from shared import IMPORTS, OF_A_PRODUCT

_SETTLE_SECONDS = 2.0


def measure(plan: Plan) -> list[Line]:
    def start_and_idle(app: tuple[str, str], send: Send, imports: str) -> list[float]:
        send(0.0)
        with environment({IMPORTS: imports}), Worker(*app) as worker:
            (started,) = wait_for_marks(worker, 1)
            time.sleep(_SETTLE_SECONDS)
            return [memory(worker.pid), started - worker.started_at]

    medians = repeat(
        plan.repeats,
        {
            "plain": lambda: start_and_idle(PLAIN, mark_plain, OF_A_PRODUCT),
            "ours": lambda: start_and_idle(OURS, mark_ours, OF_A_PRODUCT),
            "plain, bare": lambda: start_and_idle(PLAIN, mark_plain, ""),
            "ours, bare": lambda: start_and_idle(OURS, mark_ours, ""),
        },
    )

    def lines(which: str, what: str, at_most: float | None) -> list[Line]:
        (plain_memory, plain_start), (ours_memory, ours_start) = medians[f"plain{which}"], medians[f"ours{which}"]
        return [
            Line(f"idle worker, memory (PSS), {what}", plain_memory, ours_memory, "MB", at_most=at_most),
            Line(f"worker, start to first job, {what}", plain_start, ours_start, "s", at_most=at_most),
        ]

    return [
        *lines("", "both applications import SQLAlchemy, psycopg and pydantic", 1.3),
        *lines(", bare", "neither imports anything itself", None),
    ]


def memory(pid: int) -> float:
    """Megabytes of the process and all its descendants; what they share counts once."""
    return sum(kilobytes(one, "Pss") for one in with_children(pid)) / 1024
