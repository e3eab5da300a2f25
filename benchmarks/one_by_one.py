"""A backlog that was sent one by one, drained beside the same sent in bulk: by shares, and in the order of sending."""

from __future__ import annotations

import time

from draining import COMPLETED, SPAN
from harness import OURS, PACKETS, Line, Plan, Worker, environment, repeat
from sends import ours_order, send_ours
from throughput import learn_run_times

from cgk_tasks import send_jobs
from cgk_tasks.flow.crowded import CROWDED
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit


def measure(plan: Plan) -> list[Line]:
    learn_run_times()
    count = plan.deep_backlog

    def drained(fair_queues: str, *, in_bulk: bool) -> list[float]:
        """Sends a second, and runs a second from the start of the first to the end of the last."""
        with environment({"CGK_FAIR_QUEUES": fair_queues, PACKETS[0]: PACKETS[1]}):
            current_runtime().drop(CROWDED)
            begun = time.perf_counter()
            if in_bulk:
                send_jobs(map(ours_order, range(count)))
            else:
                for number in range(count):
                    send_ours(number)
            sent = count / (time.perf_counter() - begun)
            with Worker(*OURS) as worker, autocommit() as connection:
                worker.wait(lambda: connection.execute(COMPLETED, ("order.created",)).fetchone()[0] == count)
                begun, ended = connection.execute(SPAN, ("order.created",)).fetchone()
        return [sent, count / (ended - begun)]

    medians = repeat(
        plan.repeats,
        {
            "by shares, one by one": lambda: drained("*", in_bulk=False),
            "by shares, in bulk": lambda: drained("*", in_bulk=True),
            "in order, one by one": lambda: drained("", in_bulk=False),
            "in order, in bulk": lambda: drained("", in_bulk=True),
        },
    )
    lines = []
    for order, at_least in (("by shares", 0.6), ("in order", None)):
        (sent_singly, singly), (sent_in_bulk, in_bulk) = medians[f"{order}, one by one"], medians[f"{order}, in bulk"]
        what = f"backlog of {count:,} sent one by one, {order}; the same sent in bulk"
        lines.append(Line(f"{what}: drained", in_bulk, singly, "/s", at_least=at_least))
        lines.append(Line(f"{what}: sends", sent_in_bulk, sent_singly, "/s"))
    return lines
