-- name: facts
-- Everything that may hold an open run, in one look. timeout: seconds of silence after which a worker counts as dead.
SELECT r.id::text, r.tenant_id, r.event, r.job, r.state, r.queue, r.priority, r.attempt, r.deaths, r.run_at, r.expires_at,
       r.handed_over_at, r.hand_overs, r.started_at, r.worker_id::text, r.worker_pid, r.children_open,
       nullif(r.cancel_requested_at, 'infinity') AS cancel_requested_at, r.key_id,
       r.sealed_errors[cardinality(r.sealed_errors)] AS sealed_error, r.sealed_deferral,
       CASE WHEN r.sealed_deferral IS NOT NULL THEN r.sealed_payload END AS sealed_payload, now() AS now,
       t.id IS NOT NULL AS has_tenant, t.status AS tenant_status, t.suspended_at, t.suspended_by,
       q.paused_at, q.paused_by, q.reason AS pause_reason,
       w.name AS worker, extract(epoch FROM now() - w.heartbeat_at)::float8 AS worker_silent_seconds,
       EXISTS (SELECT FROM cgk.leases l WHERE l.name = 'dispatcher' AND l.expires_at > now()) AS has_dispatcher,
       (SELECT count(*) FROM cgk.workers a
         WHERE a.heartbeat_at > now() - make_interval(secs => %(timeout)s)) AS workers,
       (SELECT count(*) FROM cgk.workers a
         WHERE a.heartbeat_at > now() - make_interval(secs => %(timeout)s) AND r.queue = ANY(a.queues)
           AND {{takes_runs(a)}}) AS listening,
       (SELECT count(*) FROM cgk.workers a
         WHERE a.heartbeat_at > now() - make_interval(secs => %(timeout)s) AND r.queue = ANY(a.queues)
           AND NOT {{takes_runs(a)}}) AS drained,
       (SELECT count(*) FROM cgk.workers a
         WHERE a.heartbeat_at > now() - make_interval(secs => %(timeout)s) AND r.queue = ANY(a.queues)
           AND {{takes_runs(a)}}
           AND (a.executes IS NULL OR concat_ws(':', r.event, r.job) = ANY(a.executes))) AS executing,
       -- As JSON the row is read also before there are such columns.
       to_jsonb(r) ->> 'merge_key' AS merge_key, (to_jsonb(r) ->> 'merged')::int AS merged,
       ARRAY(SELECT a.name FROM cgk.workers a LEFT JOIN cgk.presence p ON p.worker_id = a.id
              WHERE p.worker_id IS NULL ORDER BY a.name) AS claims_wait_for
  FROM cgk.runs r
  LEFT JOIN cgk.tenants t ON t.id = r.tenant_id
  LEFT JOIN cgk.paused_queues q ON q.queue = r.queue
  LEFT JOIN cgk.workers w ON w.id = r.worker_id
 WHERE r.id = %(id)s::uuid;

-- name: lane
-- Where a held run waits: at which gate of which rule, and how many runs of its lane come before it, up to a limit. share:
-- its tenant's part of the queue, among those of which something may start.
SELECT l.queue, l.tenant_id, l.status, l.gates = '{}' AS is_free, rule.name AS rule, coalesce(rule.job, '') AS job,
       rule.kind, l.waits_at, g.at_once, g.rate, g.period, g.opens_at,
       s.weight / nullif(waiting.weight, 0) AS share, waiting.tenants,
       (SELECT count(*) FROM (SELECT FROM cgk.runs b
                               WHERE b.lane_id = r.lane_id AND b.state = 'held' AND (b.rank, b.id) < (r.rank, r.id)
                               ORDER BY b.rank LIMIT %(limit)s) AS earlier) AS ahead
  FROM cgk.runs r JOIN cgk.lanes l ON l.id = r.lane_id JOIN cgk.shares s ON s.id = l.share_id
       LEFT JOIN cgk.gates g ON g.id = l.waits_at LEFT JOIN cgk.rules rule ON rule.id = g.rule_id, LATERAL (
       SELECT count(*) AS tenants, sum(o.weight) AS weight FROM cgk.shares o
        WHERE o.queue = l.queue AND (o.open_lanes > 0 OR o.id = l.share_id)) AS waiting
 WHERE r.id = %(id)s::uuid AND r.state = 'held';

-- name: ahead
-- The dispatched runs of the queue that come before this one, by event, with how long one takes; counting stops at the limit.
SELECT before.event, t.mean_seconds, count(*) AS runs FROM (
    (SELECT event FROM cgk.runs
      WHERE state = 'pending' AND queue = %(queue)s AND handed_over_at IS NOT NULL AND priority > %(priority)s
      ORDER BY priority, handed_over_at LIMIT %(limit)s)
    UNION ALL
    (SELECT event FROM cgk.runs
      WHERE state = 'pending' AND queue = %(queue)s AND priority = %(priority)s AND handed_over_at < %(handed_over_at)s
      ORDER BY handed_over_at LIMIT %(limit)s)
    LIMIT %(limit)s) AS before
  LEFT JOIN cgk.run_times t ON t.event = before.event
 GROUP BY before.event, t.mean_seconds;

-- name: work_ahead
-- The held runs of a tenant that come before one of its, by event, with how long one takes: those of the lanes of its queue that wait for
-- the same gate, or of those that are open. Counting stops at the limit in each lane. step: seconds that a priority is worth.
WITH mine AS (
    SELECT r.id, r.rank, l.share_id, l.priority, l.waits_at FROM cgk.runs r JOIN cgk.lanes l ON l.id = r.lane_id
     WHERE r.id = %(id)s::uuid AND r.state = 'held'
)
SELECT l.event, t.mean_seconds, count(*) AS runs
  FROM mine JOIN cgk.lanes l ON l.share_id = mine.share_id AND l.status <> 'empty'
                            AND l.waits_at IS NOT DISTINCT FROM mine.waits_at
  LEFT JOIN cgk.run_times t ON t.event = l.event, LATERAL (
       SELECT FROM cgk.runs b
        WHERE b.lane_id = l.id AND b.state = 'held'
          AND (b.rank, b.id) < (mine.rank + make_interval(secs => %(step)s * (l.priority - mine.priority)), mine.id)
        ORDER BY b.rank LIMIT %(limit)s) AS earlier
 GROUP BY l.event, t.mean_seconds;

-- name: pace
-- How fast a queue's runs start. mean_seconds: of an event; processes: how many the queue's workers execute at once. share: of the gate
-- at which a run's lane waits, that of its tenant among those that wait there, by their weights.
SELECT (SELECT mean_seconds FROM cgk.run_times WHERE event = %(event)s) AS mean_seconds,
       (SELECT coalesce(sum(coalesce(w.processes, 1)), 0) FROM cgk.workers w
         WHERE w.heartbeat_at > now() - make_interval(secs => %(timeout)s) AND %(queue)s = ANY(w.queues))::int AS processes,
       (SELECT max(waiting.weight) FILTER (WHERE waiting.tenant_id = %(tenant_id)s) / nullif(sum(waiting.weight), 0) FROM (
            SELECT s.tenant_id, max(s.weight) AS weight FROM (
                (SELECT share_id FROM cgk.lanes WHERE status = 'full' AND waits_at = %(waits_at)s LIMIT %(limit)s)
                UNION
                (SELECT share_id FROM cgk.lanes WHERE status = 'closed' AND waits_at = %(waits_at)s LIMIT %(limit)s)) AS l, LATERAL (
                SELECT tenant_id, weight FROM cgk.shares WHERE id = l.share_id OFFSET 0) AS s
             GROUP BY s.tenant_id) AS waiting)::float8 AS share;

-- name: of_tenant
-- What holds a tenant's open runs, with the first of each kind. Reads all open runs.
SELECT r.state, r.queue, l.status, l.waits_at, r.run_at <= now() AS is_due, r.handed_over_at IS NOT NULL AS is_dispatched,
       count(*) AS runs, min(r.run_at) AS oldest, min(r.id::text) AS first
  FROM cgk.runs r LEFT JOIN cgk.lanes l ON l.id = r.lane_id AND r.state = 'held'
 WHERE r.tenant_id = %(tenant_id)s
 GROUP BY r.state, r.queue, l.status, l.waits_at, is_due, is_dispatched
 ORDER BY count(*) DESC, min(r.id::text) LIMIT %(limit)s;

-- name: at_work
-- What the workers of the queue are doing meanwhile.
SELECT count(*) AS runs, count(DISTINCT tenant_id) AS tenants FROM cgk.runs
 WHERE state = 'running' AND queue = %(queue)s AND worker_id IS NOT NULL;
