-- What the exporter and the alerts read. Nothing here locks a row or scans the history.

-- name: open_runs
-- One pass over the open runs: by event, queue, state and gate; and by tenant, the %(top)s with the most, the rest as
-- one. 0.5 s with a million open runs, so whoever asks keeps the answer for a while.
WITH counted AS MATERIALIZED (
    SELECT r.tenant_id, r.event, r.queue, r.state, r.run_at <= now() AS is_due, count(*) AS runs, min(r.run_at) AS oldest
      FROM cgk.runs r GROUP BY r.tenant_id, r.event, r.queue, r.state, r.run_at <= now()
), gated AS MATERIALIZED (
    SELECT c.*, CASE WHEN c.state = 'running' THEN NULL
                     WHEN c.state = 'held' OR t.status = 'suspended' THEN 'tenant_suspended'
                     WHEN c.is_due AND NOT c.queue = ANY(%(queues)s::text[]) THEN 'no_worker'
                     WHEN c.is_due OR c.state = 'pending' THEN 'none'
                     WHEN c.state = 'retrying' THEN 'backoff'
                     ELSE 'not_due' END AS gate
      FROM counted c LEFT JOIN cgk.tenants t ON t.id = c.tenant_id
), ranked AS (
    SELECT tenant_id, row_number() OVER (ORDER BY sum(runs) DESC, tenant_id) <= %(top)s AS is_top
      FROM counted GROUP BY tenant_id
)
SELECT NULL AS tenant_id, event, queue, state, gate, sum(runs)::bigint AS runs,
       greatest(extract(epoch FROM now() - min(oldest)), 0)::float8 AS oldest_seconds
  FROM gated GROUP BY event, queue, state, gate
UNION ALL
SELECT CASE WHEN is_top THEN tenant_id ELSE '' END, NULL, NULL, NULL, NULL, sum(runs)::bigint,
       greatest(extract(epoch FROM now() - min(oldest) FILTER (WHERE gate = 'none')), 0)::float8
  FROM gated JOIN ranked USING (tenant_id) GROUP BY 1;

-- name: served_queues
-- Queues that a living worker listens to.
SELECT DISTINCT unnest(queues) AS queue FROM cgk.workers
 WHERE heartbeat_at >= now() - make_interval(secs => %(timeout)s);

-- name: figures
-- By indexes and small tables only: the same with one open run and with a million. dispatcher_lag: due runs first, then
-- those that no broker has taken, the oldest of each priority.
SELECT (SELECT count(*) FROM cgk.workers WHERE heartbeat_at >= now() - make_interval(secs => %(timeout)s)) AS alive,
       (SELECT count(*) FROM cgk.workers WHERE heartbeat_at < now() - make_interval(secs => %(timeout)s)) AS silent,
       (SELECT count(*) FROM cgk.tenants WHERE status = 'active') AS active,
       (SELECT count(*) FROM cgk.tenants WHERE status = 'suspended') AS suspended,
       EXISTS (SELECT FROM cgk.leases WHERE name = %(lease)s AND expires_at > now()) AS dispatcher_leads,
       greatest(extract(epoch FROM now() - least(
           (SELECT min(run_at) FROM cgk.runs WHERE state IN ('scheduled', 'retrying') AND run_at <= now()),
           (SELECT min(first.run_at) FROM generate_series(0, 9) AS p (priority), LATERAL (
                SELECT run_at FROM cgk.runs
                 WHERE state = 'pending' AND handed_over_at IS NULL AND priority = p.priority
                 ORDER BY run_at LIMIT 1) AS first))), 0)::float8 AS dispatcher_lag;

-- name: ticks_missed
SELECT schedule, sum(given_up)::int AS ticks FROM cgk.schedule_ticks
 WHERE fired_at > now() - interval '24 hours' AND given_up > 0 GROUP BY schedule;
