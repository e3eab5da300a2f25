"""The shape of the cost: the same backlog with more open runs, with more tenants, and after an hour of history."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

from draining import COMPLETED
from harness import OURS, PACKETS, TENANT, Plan, Table, Worker, clear, setting
from throughput import learn_run_times

from cgk_tasks import SendItem, send_jobs
from cgk_tasks.sql.postgres import Connection, autocommit
from cgk_tasks.tenancy.registry import forget_known
from cgk_tasks.worker.housekeeping import run_housekeeping

# Runs that wait for a day next month: open, and in nobody's way.
FILL_OPEN = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at)
SELECT uuidv7(), %(tenant)s, 'order.created', 'scheduled', 'cgk', 0,
       convert_to(json_build_object('tenantId', %(tenant)s::text, 'orderId', 'o-' || n, 'totalAmount', 59.97)::text,
                  'UTF8'),
       now() + interval '30 days' + n * interval '1 second'
  FROM generate_series(1, %(count)s) AS n
"""

FILL_TENANTS = """
INSERT INTO cgk.tenants (id, isolation, schema_name)
SELECT 'many-' || n, 'search_path', 'many_' || n FROM generate_series(0, %s - 1) AS n ON CONFLICT DO NOTHING
"""

# What the runs of 100 seconds do to the tables: inserted, claimed, moved to the history, each in a statement.
LIVE = (
    """
INSERT INTO cgk.runs (id, tenant_id, event, job, state, queue, priority, sealed_payload, run_at, handed_over_at,
                      hand_overs)
SELECT uuidv7(), %(tenant)s, 'order.created', 'do-nothing', 'pending', 'past', 0,
       convert_to(json_build_object('tenantId', %(tenant)s::text, 'orderId', 'o-' || n, 'totalAmount', 59.97)::text,
                  'UTF8'),
       now(), now(), 1
  FROM generate_series(1, %(count)s) AS n
""",
    """
UPDATE cgk.runs SET state = 'running', attempt = attempt + 1, worker_id = gen_random_uuid(), started_at = now()
 WHERE state = 'pending' AND queue = 'past'
""",
    """
WITH gone AS (DELETE FROM cgk.runs WHERE state = 'running' AND queue = 'past' RETURNING *)
INSERT INTO cgk.run_history (id, tenant_id, event, job, state, queue, priority, sealed_payload, attempt, run_at,
                             created_at, handed_over_at, hand_overs, started_at, worker_id, closed_at)
SELECT id, tenant_id, event, job, 'completed', queue, priority, sealed_payload, attempt, run_at, created_at,
       handed_over_at, hand_overs, started_at, worker_id, now() - make_interval(secs => %(ago)s + random() * 100)
  FROM gone
""",
)

SIZES = """
SELECT (SELECT sum(pg_total_relation_size(inhrelid))::bigint FROM pg_inherits
   WHERE inhparent = 'cgk.run_history'::regclass),
       pg_total_relation_size('cgk.runs')
"""


def measure(plan: Plan) -> Table:
    learn_run_times()
    run_housekeeping()
    rows: list[list[str]] = []
    for count in plan.open_runs:
        fill = _filler(FILL_OPEN, {"tenant": TENANT, "count": count})
        rows.append(_row(f"{count:,} open runs waiting for another day", *_measured(plan, fill)))
    for count in plan.tenants:
        with autocommit() as connection:
            connection.execute(FILL_TENANTS, [count])
            connection.execute("ANALYZE cgk.tenants")
        rows.append(
            _row(f"{count:,} tenant{'s' if count > 1 else ''}", *_measured(plan, lambda _: None, tenants=count))
        )
    with autocommit() as connection:
        connection.execute("DELETE FROM cgk.tenants WHERE id LIKE 'many-%'")
    rows.append(_row("an empty history", *_measured(plan, lambda _: None)))
    rate = plan.history_per_second
    drained, sent, sizes = _measured(plan, lambda connection: _live_an_hour(connection, rate))
    rows.append(_row(f"an hour's history: {3600 * rate:,} runs, {rate} a second", drained, sent, sizes))
    return Table(
        "scale",
        "The shape of the cost",
        f"A backlog of {plan.deep_backlog * 2:,} no-ops, packets on, in addition to what the line says. Open runs, "
        "tenants "
        "and the hour were filled in by SQL (the hour by inserting, claiming and closing runs in batches of 100 s), "
        "followed by ANALYZE; autovacuum was on. The runs of the backlog go to the tenants in turn. "
        "Sizes with indexes, "
        "before the backlog.",
        ("with", "drains", "bulk send", "cgk.runs", "cgk.run_history"),
        rows,
    )


def _filler(statement: str, values: dict[str, object]) -> Callable[[Connection], None]:
    def fill(connection: Connection) -> None:
        connection.execute(statement, values)

    return fill


SECONDS = """
SELECT extract(epoch FROM max(closed_at) - min(started_at))::float8 FROM cgk.run_history
 WHERE event = %s AND state = 'completed' AND closed_at > %s
"""


def _live_an_hour(connection: Connection, per_second: int) -> None:
    for ago in range(3500, -1, -100):
        for statement in LIVE:
            values = {"tenant": TENANT, "count": per_second * 100, "ago": ago}
            connection.execute(statement, {name: value for name, value in values.items() if f"%({name})" in statement})


def _measured(plan: Plan, fill: Callable[[Connection], None], tenants: int = 0) -> tuple[float, float, tuple[int, int]]:
    """Medians of runs drained and sent a second, and the sizes of the tables. Filled once, drained several times."""
    clear()
    with autocommit() as connection:
        fill(connection)
        connection.execute("ANALYZE cgk.runs, cgk.run_history")
        connection.execute("CHECKPOINT")
        sizes = connection.execute(SIZES).fetchone()
    with setting(*PACKETS):
        figures = [_once(plan.deep_backlog * 2, tenants) for _ in range(plan.repeats)]
    drained, sent = (statistics.median(column) for column in zip(*figures, strict=True))
    print(f"  {drained:,.0f}/s, {sent:,.0f}/s, {sizes}", file=sys.stderr, flush=True)
    return drained, sent, sizes


def _once(count: int, tenants: int) -> tuple[float, float]:
    forget_known()
    begun = time.perf_counter()
    send_jobs(_order(number, f"many-{number % tenants}" if tenants else TENANT) for number in range(count))
    sent = count / (time.perf_counter() - begun)
    with autocommit() as connection:
        (before,) = connection.execute("SELECT clock_timestamp()").fetchone()
        done = COMPLETED + " AND closed_at > %s"
        with Worker(*OURS) as worker:
            worker.wait(lambda: connection.execute(done, ("order.created", before)).fetchone()[0] == count)
            (seconds,) = connection.execute(SECONDS, ("order.created", before)).fetchone()
    return count / float(seconds), sent


def _order(number: int, tenant: str) -> SendItem:
    return SendItem("order.created", {"tenantId": tenant, "orderId": f"o-{number}", "totalAmount": 59.97})


def _row(what: str, drained: float, sent: float, sizes: tuple[int, int]) -> list[str]:
    history_bytes, runs_bytes = sizes
    return [what, f"{drained:,.0f}/s", f"{sent:,.0f}/s", _megabytes(runs_bytes), _megabytes(history_bytes)]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f} MB" if size >= 1e6 else f"{size / 1e3:,.0f} kB"
