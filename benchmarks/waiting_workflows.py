"""Workflows that wait: how late they wake and how soon they take a signal, alone and beside a million that sleep for a
year, which are rows and nothing else.
"""

from __future__ import annotations

import random
import statistics
import time
from datetime import UTC, datetime, timedelta

from harness import OURS, TENANT, Plan, Table, Worker, clear, percentile, wait_for_marks
from jobs import Alarm, Called
from sends import mark_ours

from cgk_tasks import send_job, send_jobs, signal_run
from cgk_tasks.sql.postgres import autocommit

_AHEAD_SECONDS = 2.0
_SPREAD_SECONDS = 3.0
_APART_SECONDS = 0.01

# Whole rows of one that sleeps, with other ids of the same time.
_COPY_RUNS = """
INSERT INTO cgk.runs
SELECT made.* FROM cgk.runs r, generate_series(1, %(count)s) AS n,
       jsonb_populate_record(r, jsonb_build_object('id', {id})) AS made WHERE r.id = %(run)s::uuid
"""
_COPY_STEPS = """
INSERT INTO cgk.steps
SELECT made.* FROM cgk.steps s, generate_series(1, %(count)s) AS n,
       jsonb_populate_record(s, jsonb_build_object('run_id', {id})) AS made WHERE s.run_id = %(run)s::uuid
"""
_ID = "(left(%(run)s, 24) || lpad(to_hex(n), 12, '0'))::uuid"
_SIZES = """
SELECT sum(pg_total_relation_size(c.oid))::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = 'cgk' AND c.relkind = 'r' AND (c.relname = 'runs' OR c.relname LIKE 'steps%')
"""

Figures = tuple[float, float, float, float]
"""How late a workflow wakes, and how soon after a signal its next leg begins: each in ms, p50 and p99."""


def measure(plan: Plan) -> Table:
    clear()
    alone = [once(plan) for _ in range(plan.repeats)]
    clear()
    size = fall_asleep(plan.sleepers)
    beside = [once(plan) for _ in range(plan.repeats)]
    clear()
    return Table(
        "waiting_workflows",
        "Workflows that wait",
        f"{plan.due_runs} workflows at a time wake at a moment of their own, then as many are signalled one after "
        f"another. Each of the {plan.sleepers:,} that sleep beside them takes {size:,.0f} bytes of tables and indexes.",
        ("what", "alone", f"{plan.sleepers:,} asleep", "ratio"),
        [
            _row(what, *(statistics.median(figures[nth] for figures in all_of) for all_of in (alone, beside)))
            for nth, what in enumerate(("wakes late, p50", "p99", "signal to the next leg, p50", "p99"))
        ],
    )


def _row(what: str, alone: float, beside: float) -> list[str]:
    return [what, f"{alone:.0f} ms", f"{beside:.0f} ms", f"{beside / alone:.2f} ×"]  # noqa: RUF001


def once(plan: Plan) -> Figures:
    with Worker(*OURS) as worker:
        mark_ours(time.time())
        wait_for_marks(worker, 1)
        begin = time.time() + _AHEAD_SECONDS
        moments = [begin + random.uniform(0, _SPREAD_SECONDS) for _ in range(plan.due_runs)]
        send_jobs(Alarm(tenant_id=TENANT, until=moment) for moment in moments)
        late = wait_for_marks(worker, plan.due_runs)
        runs = [handle.id for handle in send_jobs(Called(tenant_id=TENANT) for _ in range(plan.due_runs))]
        worker.wait(lambda: _waiting(runs) == len(runs))
        for run in runs:
            signal_run(run, "go", {"at": time.time()})
            time.sleep(_APART_SECONDS)
        taken = wait_for_marks(worker, plan.due_runs)
    woken, went_on = ([percentile(times, part) * 1e3 for part in (50, 99)] for times in (late, taken))
    return woken[0], woken[1], went_on[0], went_on[1]


def fall_asleep(count: int) -> float:
    """Have so many workflows sleep. Returns how many bytes each of them takes."""
    moment = (datetime.now(UTC) + timedelta(days=365)).timestamp()
    run = send_job(Alarm(tenant_id=TENANT, until=moment)).id
    with Worker(*OURS) as worker:
        worker.wait(lambda: _is_asleep(run))
    with autocommit() as connection:
        before = connection.execute(_SIZES).fetchone()[0]
        for copy in (_COPY_RUNS, _COPY_STEPS):
            connection.execute(copy.format(id=_ID), {"run": run, "count": count})
        size = (connection.execute(_SIZES).fetchone()[0] - before) / count
        connection.execute("VACUUM ANALYZE cgk.runs, cgk.steps")
        connection.execute("CHECKPOINT")
    return size


def _is_asleep(run: str) -> bool:
    with autocommit() as connection:
        return (
            connection.execute("SELECT FROM cgk.runs WHERE id = %s AND state = 'scheduled'", [run]).fetchone()
            is not None
        )


def _waiting(runs: list[str]) -> int:
    with autocommit() as connection:
        return connection.execute(
            "SELECT count(*) FROM cgk.steps WHERE run_id = ANY(%s::uuid[]) AND kind = 'signal' AND state = 'waiting'",
            [runs],
        ).fetchone()[0]
