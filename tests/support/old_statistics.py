"""Open runs under PostgreSQL's statistics of another time, and what a statement reads of them."""

import re
import uuid
from contextlib import contextmanager

import psycopg

from cgk_tasks.sql.postgres import statements

PACKET = 50
OF_EACH = 100
IN_A_STATE = PACKET * OF_EACH
WORKER = str(uuid.uuid4())
TABLES = "cgk.runs, cgk.lanes, cgk.shares, cgk.gates, cgk.steps, cgk.mail, cgk.run_history"

FORGET = f"""
TRUNCATE {TABLES};
DELETE FROM pg_statistic WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace = 'cgk'::regnamespace)
"""
FILL = f"""
INSERT INTO cgk.shares (queue, tenant_id) SELECT 'q', 't' || n FROM generate_series(1, {PACKET}) AS n;
INSERT INTO cgk.lanes (share_id, queue, tenant_id, event, priority, gates, front)
SELECT id, queue, tenant_id, 'test.counted', 5, '{{}}', now() FROM cgk.shares;
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank)
SELECT gen_random_uuid(), tenant_id, event, 'held', queue, 5, '{{}}', now(), id, now()
  FROM cgk.lanes, generate_series(1, {OF_EACH});
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, handed_over_at, hand_overs)
SELECT gen_random_uuid(), tenant_id, event, 'pending', queue, 5, '{{}}', now(), now(), 1
  FROM cgk.lanes, generate_series(1, {OF_EACH});
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank, slot,
                      admitted_at, handed_over_at, attempt, worker_id, started_at)
SELECT gen_random_uuid(), tenant_id, event, 'running', queue, 5, '{{}}', now(), id, now(), id, now(), now(), 1,
       '{WORKER}', now()
  FROM cgk.lanes, generate_series(1, {OF_EACH});
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at)
SELECT gen_random_uuid(), tenant_id, event, 'scheduled', queue, 5, '{{}}', now() + interval '1 hour'
  FROM cgk.lanes, generate_series(1, {OF_EACH});
"""
AND_FURTHER = f"""
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at)
SELECT gen_random_uuid(), tenant_id, event, 'held', queue, 5, '{{}}', now() FROM cgk.lanes, generate_series(1, 4);
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, expires_at)
SELECT gen_random_uuid(), tenant_id, event, 'retrying', queue, 5, '{{}}', now(), now() FROM cgk.lanes;
WITH parents AS (SELECT id, tenant_id FROM cgk.runs WHERE state = 'scheduled' ORDER BY id LIMIT {PACKET}), steps AS (
    INSERT INTO cgk.steps (run_id, name, nth, place, kind, state, tenant_id, attempts, awaits, awaiting)
    SELECT id, 'invoke', 1, 1, 'invoke', 'waiting', tenant_id, 1, ARRAY['end'], 2 FROM parents
), ended AS (
    INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, created_at,
                                 closed_at, attempt, deaths, hand_overs, children_open, parent_id)
    SELECT id, tenant_id, 'test.counted', 'completed', 'q', 5, '', now(), now(), now(), 1, 0, 1, 0, id FROM parents
)
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, parent_id)
SELECT gen_random_uuid(), tenant_id, 'test.counted', 'pending', 'q', 5, '{{}}', now(), id FROM parents;
INSERT INTO cgk.shares (queue, tenant_id) SELECT 'full', 't' || n FROM generate_series(1, {PACKET}) AS n;
INSERT INTO cgk.lanes (share_id, queue, tenant_id, event, priority, gates, front, status, waits_at, vkey)
SELECT id, queue, tenant_id, 'test.counted', 5, ARRAY[id], now(), 'full', id, 1 FROM cgk.shares WHERE queue = 'full';
UPDATE cgk.lanes SET used_at = now() - interval '2 days' WHERE queue = 'q';
"""


def _all_of_them(more, values):
    """The table's statistics are of runs of one state. more: further columns."""
    return f"""
INSERT INTO cgk.runs (id, tenant_id, event, queue, priority, sealed_payload, run_at, state{more})
SELECT gen_random_uuid(), 'acme', 'test.counted', 'q', 5, '{{}}', now() + interval '1 day', {values}
  FROM generate_series(1, 20000);
ANALYZE cgk.runs;
TRUNCATE cgk.runs
"""


STATISTICS = {
    "none": "",
    "of an empty table": "ANALYZE cgk.runs",
    "of a table that was emptied": f"{FILL}; DELETE FROM cgk.runs; VACUUM (ANALYZE, TRUNCATE false) cgk.runs;"
    " TRUNCATE cgk.lanes, cgk.shares",
    "of runs that wait for their time": _all_of_them("", "'scheduled'"),
    "of runs in one lane": _all_of_them(", lane_id, rank", "'held', 1, now()"),
    "of dispatched runs": _all_of_them(", handed_over_at", "'pending', now()"),
    "of one worker's runs": _all_of_them(", handed_over_at, worker_id", f"'running', now(), '{WORKER}'"),
}


def prepare(connection, statistics):
    """5000 runs in each of four states, of 50 lanes, and few others; and statistics that know nothing of them."""
    for statement in ";".join([FORGET, STATISTICS[statistics], FILL, AND_FURTHER]).split(";"):
        if statement.strip():
            connection.execute(statement)


@contextmanager
def undone(connection):
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")


def plan_of(connection, statement, given, plan, *, by_index=False):
    """How PostgreSQL executes the statement. plan: force_custom_plan or force_generic_plan; by_index: as passes do."""
    names = []

    def place(found):
        if found[1] not in names:
            names.append(found[1])
        return f"${names.index(found[1]) + 1}"

    text = re.sub(r"%\((\w+)\)[sbt]", place, statement)
    parameters = f"({', '.join(f'%({name})s' for name in names)})" if names else ""
    with undone(connection), psycopg.ClientCursor(connection) as cursor:
        cursor.execute(f"SELECT set_config('plan_cache_mode', '{plan}', true)")
        if by_index:
            cursor.execute(statements("admission")["by_index"])
        cursor.execute("PREPARE look AS " + text.replace("%", "%%"), {})
        try:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE look {parameters}", given)
            ((plans,),) = cursor.fetchall()
        finally:
            connection.execute("ROLLBACK")
            connection.execute("DEALLOCATE look")
    return plans[0]["Plan"]


def most_read(plan):
    """The most rows that a part of the statement looks at."""
    return max(_looked_at(plan))


def most_compared(plan):
    """The most rows that were compared with others in vain."""
    in_vain = plan.get("Rows Removed by Join Filter", 0) * plan["Actual Loops"]
    return max([in_vain, *map(most_compared, plan.get("Plans", []))])


def _looked_at(node):
    removed = sum(rows for name, rows in node.items() if name.startswith("Rows Removed"))
    yield (node["Actual Rows"] + removed) * node["Actual Loops"]
    for part in node.get("Plans", []):
        yield from _looked_at(part)
