-- What the exporter and the alerts read. Nothing here locks a row or scans the history.

-- fragment: counted(runs)
WITH counted AS MATERIALIZED (
    SELECT r.tenant_id, r.event, r.queue, r.state, r.run_at <= now() AS is_due, r.is_free, r.is_paused,
           count(*) AS runs, min(r.run_at) AS oldest
      FROM {runs} AS r GROUP BY r.tenant_id, r.event, r.queue, r.state, r.run_at <= now(), r.is_free, r.is_paused
), gated AS MATERIALIZED (
    SELECT c.*, CASE WHEN c.state = 'running' THEN NULL
                     WHEN t.status = 'suspended' THEN 'tenant_suspended'
                     WHEN q.queue IS NOT NULL THEN 'queue_paused'
                     WHEN c.is_paused THEN 'paused'
                     WHEN c.is_due AND NOT c.queue = ANY(%(queues)b::text[]) THEN 'no_worker'
                     WHEN c.is_due AND c.state = 'held' AND NOT c.is_free THEN 'limit'
                     WHEN c.is_due OR c.state = 'pending' THEN 'none'
                     WHEN c.state = 'retrying' THEN 'backoff'
                     ELSE 'not_due' END AS gate
      FROM counted c LEFT JOIN cgk.tenants t ON t.id = c.tenant_id LEFT JOIN cgk.paused_queues q ON q.queue = c.queue
), most AS MATERIALIZED (
    SELECT ARRAY(SELECT tenant_id FROM counted GROUP BY tenant_id ORDER BY sum(runs) DESC, tenant_id LIMIT %(top)s) AS tenants
)
SELECT NULL AS tenant_id, event, queue, state, gate, sum(runs)::bigint AS runs,
       greatest(extract(epoch FROM now() - min(oldest)), 0)::float8 AS oldest_seconds
  FROM gated GROUP BY event, queue, state, gate
UNION ALL
SELECT CASE WHEN tenant_id = ANY((SELECT tenants FROM most)::text[]) THEN tenant_id ELSE '' END, NULL, NULL, NULL, NULL,
       sum(runs)::bigint, greatest(extract(epoch FROM now() - min(oldest) FILTER (WHERE gate = 'none')), 0)::float8
  FROM gated GROUP BY 1

-- name: open_runs
-- One pass over the open runs: by event, queue, state and gate; and by tenant, the %(top)s with the most, the rest as
-- one. 0.5 s with a million open runs, so whoever asks keeps the answer for a while. What is held in a lane without gates
-- waits for a worker, like the others of its crowded queue.
{{counted((SELECT r.*, r.lane_id IS NOT NULL
                       AND coalesce((SELECT cardinality(gates) = 0 FROM cgk.lanes WHERE id = r.lane_id), false) AS is_free,
                  EXISTS (SELECT FROM cgk.pauses p
                           WHERE (p.queue IS NULL OR p.queue = r.queue) AND (p.tenant_id IS NULL OR p.tenant_id = r.tenant_id)
                             AND (p.event IS NULL OR p.event = r.event)) AS is_paused
             FROM cgk.runs r))}};

-- name: open_runs_before_lanes
-- The same before cgk-tasks migrate --finish, while there are no lanes.
{{counted((SELECT r.*, false AS is_free, false AS is_paused FROM cgk.runs r))}};

-- name: served_queues
-- Queues that a live worker listens to which is not drained.
SELECT DISTINCT unnest(queues) AS queue FROM cgk.workers w
 WHERE heartbeat_at >= now() - make_interval(secs => %(timeout)s) AND {{takes_runs(w)}};

-- name: totals
-- By indexes and small tables only: the same with one open run and with a million. dispatcher_lag: due runs first, then
-- those that no broker has taken, the oldest of each priority.
SELECT (SELECT count(*) FROM cgk.workers WHERE heartbeat_at >= now() - make_interval(secs => %(timeout)s)) AS alive,
       (SELECT count(*) FROM cgk.workers WHERE heartbeat_at < now() - make_interval(secs => %(timeout)s)) AS silent,
       (SELECT count(*) FROM cgk.workers w
         WHERE heartbeat_at >= now() - make_interval(secs => %(timeout)s) AND NOT {{takes_runs(w)}}) AS draining,
       (SELECT count(*) FROM cgk.tenants WHERE status = 'active') AS active,
       (SELECT count(*) FROM cgk.tenants WHERE status = 'suspended') AS suspended,
       EXISTS (SELECT FROM cgk.leases WHERE name = %(lease)s AND expires_at > now()) AS dispatcher_leads,
       greatest(extract(epoch FROM now() - least(
           (SELECT min(run_at) FROM cgk.runs WHERE state IN ('scheduled', 'retrying') AND run_at <= now()),
           (SELECT min(first.run_at) FROM generate_series(0, 9) AS p (priority), LATERAL (
                SELECT run_at FROM cgk.runs
                 WHERE state = 'pending' AND handed_over_at IS NULL AND priority = p.priority
                 ORDER BY run_at LIMIT 1) AS first))), 0)::float8 AS dispatcher_lag;

-- name: worker_clocks
-- How far the clocks of living workers are off.
SELECT name, avg(clock_offset_seconds) AS seconds FROM cgk.workers
 WHERE heartbeat_at >= now() - make_interval(secs => %(timeout)s) AND clock_offset_seconds IS NOT NULL
 GROUP BY name ORDER BY name;

-- name: ticks_missed
SELECT schedule, sum(given_up)::int AS ticks FROM cgk.schedule_ticks
 WHERE fired_at > now() - interval '24 hours' AND given_up > 0 GROUP BY schedule;

-- name: failed_runs
-- Runs of critical events that failed since then, by event and window of time. By the index of failed runs.
SELECT event, floor(extract(epoch FROM closed_at) / %(window)s)::bigint AS slot, count(*) AS runs,
       (array_agg(id::text ORDER BY closed_at))[1:5] AS ids, (array_agg(DISTINCT tenant_id))[1:5] AS tenants,
       (array_agg(error_code ORDER BY closed_at DESC))[1] AS error_code
  FROM cgk.run_history
 WHERE state = 'failed' AND closed_at > now() - make_interval(secs => %(seconds)s) AND event <> %(alert)s
   AND (%(events)b::text[] IS NULL OR event = ANY(%(events)b::text[]))
 GROUP BY event, slot ORDER BY slot, event;

-- fragment: waiting(and_in_lanes)
WITH RECURSIVE lists AS (
    (SELECT queue, priority, run_at FROM cgk.runs
      WHERE state = 'pending' AND handed_over_at IS NOT NULL
      ORDER BY queue, priority, handed_over_at LIMIT 1)
    UNION ALL
    SELECT following.* FROM lists, LATERAL (
        SELECT queue, priority, run_at FROM cgk.runs
         WHERE state = 'pending' AND handed_over_at IS NOT NULL AND (queue, priority) > (lists.queue, lists.priority)
         ORDER BY queue, priority, handed_over_at LIMIT 1) AS following
), oldest AS (
    SELECT queue, run_at FROM lists
    UNION ALL
    SELECT undispatched.queue, undispatched.run_at FROM generate_series(0, 9) AS p (priority), LATERAL (
        SELECT queue, run_at FROM cgk.runs
         WHERE state = 'pending' AND handed_over_at IS NULL AND priority = p.priority
           AND NOT EXISTS (SELECT FROM cgk.paused_queues q WHERE q.queue = runs.queue)
         ORDER BY run_at LIMIT 1) AS undispatched
    UNION ALL
    (SELECT queue, run_at FROM cgk.runs
      WHERE state IN ('scheduled', 'retrying') AND run_at <= now()
        AND NOT EXISTS (SELECT FROM cgk.paused_queues q WHERE q.queue = runs.queue)
      ORDER BY run_at LIMIT 1) {and_in_lanes}
)
SELECT queue, extract(epoch FROM now() - min(run_at))::float8 AS seconds FROM oldest
 WHERE run_at < now() - make_interval(secs => %(seconds)s)
   AND NOT EXISTS (SELECT FROM cgk.paused_queues q WHERE q.queue = oldest.queue)
 GROUP BY queue ORDER BY queue

-- name: waiting_longest
-- Queues, but not paused ones, in which a run that could run now has been due for longer than the limit. Jumps from list to list in the index
-- of what is dispatched, so that it costs the same with a hundred runs waiting and with a million; then what no broker
-- has taken, what is due and not dispatched, and what waits in lanes because its queue is crowded.
{{waiting(UNION ALL {{first_of_open_lanes}})}};

-- name: waiting_longest_before_lanes
-- The same before cgk-tasks migrate --finish, while there are no lanes.
{{waiting()}};
