"""A record of many runs: 50 tenants or more, a dozen events, a month of history in its daily partitions; and queues in
which tenants wait.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cgk_tasks.runs import partitions
from cgk_tasks.runs.models import new_run_id
from cgk_tasks.sql.postgres import autocommit, execute

DAYS = 30

TENANTS = """
INSERT INTO cgk.tenants (id, isolation, schema_name)
SELECT 'shop-' || n, 'search_path', 'shop_' || n FROM generate_series(1, %(tenants)s) AS n ON CONFLICT DO NOTHING
"""

_ROWS = """
WITH numbers AS (
    SELECT n, now() - make_interval(secs => (%(runs)s - n)::float8 * %(span)s / %(runs)s) AS at,
           (ARRAY['order.created', 'order.fulfilled', 'customer.created', 'video.uploadCompleted', 'payout.completed',
                  'review.submitted', 'email.send', 'subscription.billing', 'product.sync', 'webhook.process',
                  'attribution.sync', 'inventory.sync'])[1 + n %% 12] AS event,
           -- A few tenants have most of the work.
           'shop-' || (1 + floor(%(tenants)s * power(random(), 3)))::int AS tenant_id
      FROM generate_series(1, %(runs)s) AS n
), made AS (
    SELECT numbers.*,
           (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7'
            || substr(md5(n::text || random()::text), 1, 3) || 'a' || substr(md5(random()::text), 1, 15))::uuid AS id,
           convert_to(json_build_object('tenantId', tenant_id, 'orderId', 'o-' || n, 'customerId', 'c-' || n %% 5000,
                             'totalAmount', n %% 500 + 0.99, 'currency', 'EUR', 'note', repeat('x', 200))::text,
                      'UTF8') AS payload,
           'orderId=o-' || n || E'\\ncustomerId=c-' || n %% 5000 AS search_fields
      FROM numbers
)
"""

CLOSED = (
    _ROWS
    + """
INSERT INTO cgk.run_history (id, tenant_id, event, job, state, queue, priority, sealed_payload, search_fields, attempt,
                             run_at, created_at, handed_over_at, hand_overs, started_at, sealed_errors, closed_at,
                             sealed_result, error_code, error_fingerprint, worker_id)
SELECT id, tenant_id, event, 'job-of-' || event,
   CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN 'completed' ELSE 'failed' END, 'cgk', 5,
       payload, search_fields, 1, at, at, at, 1, at + interval '2 seconds' * random(),
       CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN NULL ELSE ARRAY[convert_to(json_build_object(
           'attempt', 1, 'kind', 'permanent', 'code', (ARRAY['TIMEOUT', 'HTTP_502', 'INVALID_STATE'])[1 + n %% 3],
           'type', 'ValueError', 'message', (ARRAY['order ', 'stock of ', 'payment '])[1 + n / 12 %% 3] || n
           || ' cannot be done',
           'at', at, 'traceback', repeat('  File "shop/jobs.py", line 17, in job' || E'\\n', 30))::text, 'UTF8')] END,
       at + interval '2 seconds' + interval '100 seconds' * power(random(), 4), '{"ok": true}',
       CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN NULL ELSE 'TIMEOUT' END,
       CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN NULL ELSE 'fingerprint-' || n %% 3 || n / 12 %% 3 END,
       '01a20143-39c3-702f-a327-7b42b6a69ad6'
  FROM made
"""
)

OPEN = (
    _ROWS
    + """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, search_fields, attempt, run_at,
                      created_at, handed_over_at, hand_overs)
SELECT id, tenant_id, event, (ARRAY['scheduled', 'pending', 'held', 'retrying', 'pending'])[1 + n %% 5], 'cgk', 5,
       payload, search_fields, 0,
       at + CASE WHEN n %% 5 IN (0, 3) THEN interval '2 days' ELSE interval '0' END, at, at, 1
  FROM made
"""
)


LANES = """
WITH queue AS (SELECT 'exports'::text AS name), rule AS (
    INSERT INTO cgk.rules (name, job, event, kind, per, declared)
    VALUES ('job-of-lanes/at_once/tenant', 'job-of-lanes', 'product.sync', 'at_once', 'tenant', '{}') RETURNING id
), gates AS (
    INSERT INTO cgk.gates (rule_id, key, at_once)
    SELECT rule.id, 'shop-' || n, 2 FROM rule, generate_series(1, %(tenants)s, 2) AS n RETURNING id, key
), shares AS (
    INSERT INTO cgk.shares (queue, tenant_id, vtime, open_lanes)
    SELECT queue.name, 'shop-' || n, random() * 1000, n %% 2 FROM queue, generate_series(1, %(tenants)s) AS n
    RETURNING id, tenant_id
)
INSERT INTO cgk.lanes (share_id, queue, tenant_id, event, priority, gates, status, front, urgency, arrivals, waits_at,
                       vkey)
SELECT s.id, queue.name, s.tenant_id, 'product.sync', 5, CASE WHEN g.id IS NULL THEN '{}' ELSE ARRAY[g.id] END,
       CASE WHEN g.id IS NULL THEN 'open' ELSE 'full' END, at, at, %(held)s, g.id,
       CASE WHEN g.id IS NOT NULL THEN random() END
  FROM queue, shares s LEFT JOIN gates g ON g.key = s.tenant_id,
       LATERAL (SELECT now() - random() * interval '1 hour' AS at WHERE s.id > 0) AS due
"""

HELD = """
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, run_at, lane_id, rank)
SELECT (lpad(to_hex(floor(extract(epoch FROM l.front) * 1000)::bigint + n), 12, '0') || '7'
        || substr(md5(l.id::text || n::text), 1, 3) || 'a' || substr(md5(n::text || random()::text), 1, 15))::uuid,
       l.tenant_id, l.event, 'held', l.queue, 5, convert_to(json_build_object('tenantId', l.tenant_id)::text, 'UTF8'),
       l.front + n * interval '1 ms', l.id, l.front + n * interval '1 ms'
  FROM cgk.lanes l, generate_series(1, %(held)s) AS n
"""

# Two places of every fourth gate.
SLOTS = """
UPDATE cgk.runs r
   SET state = 'running', attempt = 1, started_at = now(), handed_over_at = now(), admitted_at = now(), hand_overs = 1,
       slot = taken.slot, worker_id = '00000000-0000-4000-8000-000000000001', worker_pid = taken.slot::int
  FROM (SELECT first.id, row_number() OVER () AS slot FROM cgk.lanes l, LATERAL (
            SELECT id FROM cgk.runs WHERE lane_id = l.id AND state = 'held' ORDER BY rank LIMIT 2) AS first
         WHERE l.status = 'full' AND l.id %% 4 = 0) AS taken
 WHERE r.id = taken.id
"""

USED = """
WITH made AS (
    INSERT INTO cgk.used_shares (queue, tenant_id, minute, seconds)
    SELECT 'exports', 'shop-' || n, date_trunc('minute', now()) - make_interval(mins => m), random() * 10
      FROM generate_series(1, %(tenants)s) AS n, generate_series(0, 69) AS m
    RETURNING *
), halves AS (
    INSERT INTO cgk.used_half_hours (queue, half_hour, tenant_id, seconds)
    SELECT queue, date_bin('30 minutes', minute, '2000-01-01Z'), tenant_id, sum(seconds) FROM made GROUP BY 1, 2, 3
)
INSERT INTO cgk.used_shares (queue, tenant_id, minute, seconds)
SELECT queue, '', minute, sum(seconds) FROM made GROUP BY 1, 3
"""

WORKFLOW = """
WITH run AS (
    INSERT INTO cgk.runs (id, tenant_id, event, job, state, queue, priority, sealed_payload, run_at, created_at,
                          attempt, started_at)
    VALUES (%(id)s, 'shop-1', 'order.created', 'long', 'scheduled', 'cgk', 5, '{"tenantId": "shop-1"}',
            now() + interval '1 day', now() - interval '1 hour', 3, now() - interval '50 minutes')
    RETURNING id
)
INSERT INTO cgk.steps (run_id, name, nth, place, kind, state, tenant_id, sealed_result, begun_at, ended_at)
SELECT run.id, 'step-' || n, 1, n, 'step', CASE WHEN n %% 100 = 50 THEN 'failed' ELSE 'done' END, 'shop-1',
       convert_to('{"sent": true, "id": ' || n || '}', 'UTF8'), now() - interval '1 hour' + n * interval '3 seconds',
       now() - interval '1 hour' + (n + 1) * interval '3 seconds'
  FROM run, generate_series(1, %(steps)s) AS n
"""


def fill_lanes(tenants: int, held: int) -> None:
    """Have each of so many tenants wait in the queue `exports`, half of them at a gate, with so many runs each; and say
    what they had of its workers in each minute of the last hour.
    """
    with autocommit() as connection:
        execute(connection, LANES, {"tenants": tenants, "held": held})
        execute(connection, HELD, {"held": held})
        connection.execute(SLOTS.replace("%%", "%"))
        execute(connection, USED, {"tenants": tenants})
        for table in ("runs", "lanes", "shares", "gates", "used_shares", "used_half_hours"):
            connection.execute(f"VACUUM ANALYZE cgk.{table}")


def fill_workflow(steps: int) -> str:
    """A workflow that waits and has done so many steps. Returns its run's id."""
    run_id = new_run_id()
    with autocommit() as connection:
        execute(connection, WORKFLOW, {"id": run_id, "steps": steps})
        connection.execute("VACUUM ANALYZE cgk.steps")
    return run_id


def fill(closed: int, open_runs: int = 0, tenants: int = 50) -> None:
    """Put so many closed runs into the last month, and so many open ones into the last hour."""
    today = datetime.now(UTC).date()
    for days in range(DAYS, -1, -7):
        partitions.make_days(today - timedelta(days=days))
    with autocommit() as connection:
        execute(connection, TENANTS, {"tenants": tenants})
        execute(connection, CLOSED, {"runs": closed, "span": DAYS * 86_400 - 60, "tenants": tenants})
        if open_runs:
            execute(connection, OPEN, {"runs": open_runs, "span": 3_600, "tenants": tenants})
        connection.execute("VACUUM ANALYZE cgk.runs")
        connection.execute("VACUUM ANALYZE cgk.run_history")
