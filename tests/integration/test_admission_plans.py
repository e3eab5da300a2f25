"""What a pass costs: it reads no table from end to end, and as many pages whatever waits behind a gate."""

import time
from datetime import UTC, datetime

import psycopg
import pytest

from cgk_tasks.admission.passes import Passes
from cgk_tasks.sql.postgres import autocommit, close_pools
from tests.support.lanes import add_worker, finish, hold, ids_of, make_gate, make_lane, make_rule

pytestmark = pytest.mark.slow

TENANTS = 800

BULK = """
INSERT INTO cgk.gates (rule_id, key, at_once) SELECT %(rule)s, 't' || n, 2 FROM generate_series(1, %(tenants)s) n;
INSERT INTO cgk.shares (queue, tenant_id) SELECT 'q-lanes', 't' || n FROM generate_series(1, %(tenants)s) n;
INSERT INTO cgk.lanes (share_id, queue, tenant_id, event, priority, gates, status, front, urgency, arrivals)
SELECT s.id, 'q-lanes', s.tenant_id, 'middling', 5, ARRAY[g.id], 'new', now(), now(), %(each)s
  FROM cgk.shares s JOIN cgk.gates g ON g.rule_id = %(rule)s AND g.key = s.tenant_id;
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank)
SELECT gen_random_uuid(), l.tenant_id, l.event, 'held', l.queue, 5, '{}', now(), l.id,
       now() + make_interval(secs => n / 1e6)
  FROM cgk.lanes l, generate_series(1, %(each)s) n WHERE l.event = 'middling'
"""
SCANS = (
    "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname IN ('runs', 'lanes', 'shares', 'gates') ORDER BY 1"
)
PAGES = """
SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read)::bigint FROM pg_statio_user_tables
 WHERE relname IN ('runs', 'lanes', 'shares', 'gates', 'passes')
"""


@pytest.fixture(autouse=True)
def lanes(database, setting):
    """No lanes of other tests, the usual window, many places, and one connection, whose counters are read."""
    setting(CGK_WINDOW_SECONDS=None)
    close_pools()
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.rules, cgk.workers")
        connection.execute("UPDATE cgk.passes SET known = '{}', clocks = '{}'")
    add_worker("q-lanes", 10_000)


def hold_in_bulk(each):
    """Runs of many tenants, each of which may have two at once."""
    values = {"rule": make_rule(), "tenants": TENANTS, "each": each}
    with autocommit() as connection:
        for statement in BULK.split(";"):
            connection.execute(statement, values)
        connection.execute("VACUUM ANALYZE cgk.runs, cgk.lanes, cgk.shares, cgk.gates")


def counted(statement):
    with autocommit() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def test_no_pass_reads_the_runs_the_lanes_the_shares_or_the_gates_from_end_to_end():
    hold_in_bulk(20)
    passes = Passes({"middling": 0.01}.get)
    scans = []
    for _ in range(15):  # until PostgreSQL keeps the plans
        before = counted(SCANS)
        finish(ids_of(passes.make()))
        passes.sweep()
        scans.append(counted(SCANS) != before)
    assert not all(scans[10:])  # a worker of another test may read them meanwhile, but not in each pass


def pages_of_pass(passes):
    """How many pages a pass reads that admits one run."""
    [(before,)] = counted(PAGES)
    admitted = ids_of(passes.make())
    [(after,)] = counted(PAGES)
    assert len(admitted) == 1
    return after - before


@pytest.mark.parametrize("is_analyzed", [False, True])
def test_runs_behind_a_full_gate_cost_the_others_nothing(is_analyzed):
    if is_analyzed:  # while they are empty, which is what PostgreSQL goes by then when it makes the plans
        counted("ANALYZE cgk.runs, cgk.lanes, cgk.shares, cgk.gates")
    passes = Passes({"slow": 5.0}.get)
    free = make_lane("globex", event="slow")
    few, many = [], []
    for pages, waiting in ((few, 10), (many, 20_000)):
        hold(make_lane("acme", make_gate(at_once=1), event="slow"), waiting)
        finish(ids_of(passes.make())[1:])
        for _ in range(12):
            hold(free)
            pages.append(pages_of_pass(passes))
    assert min(many) <= 1.5 * min(few) + 10


def test_dead_rows_that_nothing_may_remove_make_passes_no_slower(database):
    """A transaction is open all the time, so that vacuum removes nothing; its snapshot is from before."""
    lane = make_lane("acme", make_gate(at_once=10_000), event="quick")
    runs = hold(lane, 6000, since=datetime.now(UTC))
    passes = Passes({"quick": 0.005}.get)
    with psycopg.connect(database) as report:
        report.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        report.execute("SELECT count(*) FROM cgk.runs")
        pages = []
        with autocommit() as connection:
            connection.execute("UPDATE cgk.workers SET processes = 2")  # 200 runs a pass
        until = time.monotonic() + 60
        while runs and time.monotonic() < until:
            [(before,)] = counted(PAGES)
            admitted = ids_of(passes.make())
            [(after,)] = counted(PAGES)
            pages.append((after - before) / max(1, len(admitted)))
            finish(admitted)
            runs = runs[len(admitted) :]
    assert (runs, len(pages)) == ([], 30)
    assert min(pages[-5:]) <= 1.5 * min(pages[2:7])
