"""A record of many runs: 50 tenants, a dozen events, a month of history in its daily partitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cgk_tasks.runs import partitions
from cgk_tasks.sql.postgres import autocommit, execute

DAYS = 30

TENANTS = """
INSERT INTO cgk.tenants (id, isolation, schema_name)
SELECT 'shop-' || n, 'search_path', 'shop_' || n FROM generate_series(1, 50) AS n ON CONFLICT DO NOTHING
"""

_ROWS = """
WITH numbers AS (
    SELECT n, now() - make_interval(secs => (%(runs)s - n)::float8 * %(span)s / %(runs)s) AS at,
           (ARRAY['order.created', 'order.fulfilled', 'customer.created', 'video.uploadCompleted', 'payout.completed',
                  'review.submitted', 'email.send', 'subscription.billing', 'product.sync', 'webhook.process',
                  'attribution.sync', 'inventory.sync'])[1 + n %% 12] AS event,
           -- A few tenants have most of the work.
           'shop-' || (1 + floor(50 * power(random(), 3)))::int AS tenant_id
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
                             sealed_result, error_code, error_fingerprint)
SELECT id, tenant_id, event, 'job-of-' || event,
   CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN 'completed' ELSE 'failed' END, 'cgk', 5,
       payload, search_fields, 1, at, at, at, 1, at,
       CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN NULL ELSE ARRAY[convert_to(json_build_object(
           'attempt', 1, 'kind', 'permanent', 'code', (ARRAY['TIMEOUT', 'HTTP_502', 'INVALID_STATE'])[1 + n %% 3],
           'type', 'ValueError', 'message', (ARRAY['order ', 'stock of ', 'payment '])[1 + n / 12 %% 3] || n
           || ' cannot be done',
           'at', at, 'traceback', repeat('  File "shop/jobs.py", line 17, in job' || E'\\n', 30))::text, 'UTF8')] END,
       at + interval '1 second', '{"ok": true}', CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN NULL ELSE 'TIMEOUT' END,
       CASE WHEN n %% 12 < 11 OR n %% 5 < 1 THEN NULL ELSE 'fingerprint-' || n %% 3 || n / 12 %% 3 END
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


def fill(closed: int, open_runs: int = 0) -> None:
    """Put so many closed runs into the last month, and so many open ones into the last hour."""
    today = datetime.now(UTC).date()
    for days in range(DAYS, -1, -7):
        partitions.make_partitions(today - timedelta(days=days))
    with autocommit() as connection:
        connection.execute(TENANTS)
        execute(connection, CLOSED, {"runs": closed, "span": DAYS * 86_400 - 60})
        if open_runs:
            execute(connection, OPEN, {"runs": open_runs, "span": 3_600})
        connection.execute("VACUUM ANALYZE cgk.runs")
        connection.execute("VACUUM ANALYZE cgk.run_history")
