"""A backlog of an event whose run time nobody has measured yet, drained beside the same of one that is known.

Packets are for runs that are known to be short, so the first runs of a new event travel alone.
"""

from __future__ import annotations

import plain_app
from draining import drain_ours, drain_plain
from harness import PACKETS, PLAIN, Line, Plan, repeat, setting
from sends import ours_order, plain_order
from throughput import learn_run_times

from cgk_tasks.broker import packets
from cgk_tasks.runtime import current_runtime
from cgk_tasks.sql.postgres import autocommit


def measure(plan: Plan) -> list[Line]:
    learn_run_times()
    count, many = plan.backlog, plan.deep_backlog

    def drained() -> list[float]:
        with setting(*PACKETS):
            return [drain_ours("order.created", map(ours_order, range(many)), many)]

    def drained_unmet() -> list[float]:
        with autocommit() as connection:
            connection.execute("DELETE FROM cgk.run_times")
        current_runtime().drop(packets.RUN_TIMES)
        return drained()

    medians = repeat(
        plan.repeats,
        {
            "plain": lambda: [drain_plain(plain_app.app, PLAIN, "do_nothing", plain_order, count)],
            "unmet": drained_unmet,
            "met": drained,  # by the workers of the one before
        },
    )
    what = f"no-op runs, backlog of {many:,} of an event not met before"
    return [
        Line(what, *medians["plain"], *medians["unmet"], "/s", at_least=1.0),
        Line(f"{what}; the same met before", *medians["met"], *medians["unmet"], "/s"),
    ]
