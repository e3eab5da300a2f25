"""Jobs that write one row: with `ctx.db`, committed together with the run's completion; plain with its own commit."""

from __future__ import annotations

import plain_app
from draining import drain_ours, drain_plain
from harness import PLAIN, Line, Plan, repeat
from sends import ours_rows, plain_row


def measure(plan: Plan) -> list[Line]:
    count = plan.rows
    medians = repeat(
        plan.repeats,
        {
            "plain": lambda: [drain_plain(plain_app.app, PLAIN, "write_row", plain_row, count)],
            "ours": lambda: [drain_ours("bench.write", ours_rows(count), count)],
        },
    )
    return [Line(f"runs that write one row, backlog of {count:,}", *medians["plain"], *medians["ours"], "/s")]
