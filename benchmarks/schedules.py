"""One tick of a schedule for many tenants, against what a plain beat task does: a loop of `apply_async`."""

from __future__ import annotations

import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from itertools import count

from harness import Line, Plan, repeat
from plain_app import app
from sends import plain_order

from cgk_tasks import Schedule
from cgk_tasks.schedules import fan_out
from cgk_tasks.sql.postgres import autocommit, fetch

ADD_TENANTS = """
INSERT INTO cgk.tenants (id, isolation, schema_name)
SELECT 'tick-' || n, 'search_path', 'tick_' || n FROM generate_series(1, %s) AS n ON CONFLICT DO NOTHING
"""
SCHEDULE = Schedule("bench.tick", "0 6 * * *", "UTC", "subscription.billing", overlap="allow")
_days = count()


def measure(plan: Plan) -> list[Line]:
    tenants = plan.bulk
    with autocommit() as connection:
        connection.execute(ADD_TENANTS, [tenants])
        tenants = fetch(
            connection, "SELECT count(*) AS n FROM cgk.tenants WHERE status = 'active' AND source <> 'platform'"
        )[0]["n"]

    def plain() -> list[float]:
        task = app.tasks["do_nothing"]
        begun = time.perf_counter()
        for number in range(tenants):
            task.apply_async(kwargs=plain_order(number))
        return [time.perf_counter() - begun]

    def ours() -> list[float]:
        begun = time.perf_counter()
        assert tick() == tenants
        return [time.perf_counter() - begun]

    medians = repeat(plan.repeats, {"plain": plain, "ours": ours})
    statements, peak = statements_and_memory()
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.runs WHERE schedule = 'bench.tick'")
        connection.execute("DELETE FROM cgk.tenants WHERE id LIKE 'tick-%'")
    what = f"one tick for {tenants:,} tenants"
    return [
        Line(what, *medians["plain"], *medians["ours"], "s", at_most=1.0),
        Line(f"{what}, statements", None, statements, "", at_most=10),
        Line(f"{what}, memory at its peak", None, peak / 1e6, "MB", at_most=100),
    ]


def tick() -> int:
    """The runs of one tick, each time of another day."""
    now = datetime.now(UTC)
    return fan_out.fire(SCHEDULE, now + timedelta(microseconds=next(_days)), now=now + timedelta(seconds=1)).runs


def statements_and_memory() -> tuple[int, int]:
    """Of one more tick: statements sent to PostgreSQL (BEGIN and COMMIT too),
    and bytes of Python objects at the peak.
    """
    seen: list[str] = []
    real = {name: getattr(fan_out, name) for name in ("fetch", "execute")}
    for name, function in real.items():
        setattr(fan_out, name, lambda *args, function=function: (seen.append(args[1]), function(*args))[1])
    tracemalloc.start()
    try:
        tick()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        for name, function in real.items():
            setattr(fan_out, name, function)
    return len(seen) + 2, peak
