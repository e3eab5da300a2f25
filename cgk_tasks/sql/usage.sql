-- What tenants used, by hours of UTC. Closed hours are counted once, out of the history; the rest is read there when asked for.

-- fragment: used
-- Of closed runs of a tenant. run_seconds: of their last attempts. queue_seconds: from when they were due to when that began. The
-- parent of an event's several jobs is held by no worker, and runs for no time of its own.
count(*) AS runs, count(*) FILTER (WHERE state = 'failed') AS failed,
       coalesce(sum(extract(epoch FROM closed_at - started_at)) FILTER (WHERE worker_id IS NOT NULL), 0)::float8 AS run_seconds,
       coalesce(sum(greatest(extract(epoch FROM started_at - greatest(run_at, created_at)), 0))
                FILTER (WHERE worker_id IS NOT NULL), 0)::float8 AS queue_seconds

-- name: lock_progress
-- is_due: whether an hour is over that is not counted. is_closed: whether nobody can add a run any more to what is counted next.
SELECT counted_until, closing, now() >= counted_until + interval '1 hour' AS is_due,
       before_xid IS NOT NULL AND pg_snapshot_xmin(pg_current_snapshot()) >= before_xid AS is_closed
  FROM cgk.usage_progress FOR UPDATE SKIP LOCKED;

-- name: begin_closing
-- A day at once at most.
UPDATE cgk.usage_progress
   SET closing = least(date_trunc('hour', now(), 'UTC'), counted_until + interval '1 day'),
       before_xid = pg_snapshot_xmax(pg_current_snapshot());

-- name: count_closed
-- Hours are counted once, so what is there already of them are refused sends.
INSERT INTO cgk.tenant_usage AS known (tenant_id, hour, runs, failed, run_seconds, queue_seconds)
SELECT tenant_id, date_trunc('hour', closed_at, 'UTC') AS hour, {{used}}
  FROM cgk.run_history
 WHERE closed_at >= %(begin)s::timestamptz AND closed_at < %(end)s::timestamptz GROUP BY 1, 2
ON CONFLICT (hour, tenant_id) DO UPDATE
   SET runs = EXCLUDED.runs, failed = EXCLUDED.failed, run_seconds = EXCLUDED.run_seconds,
       queue_seconds = EXCLUDED.queue_seconds;

-- name: end_closing
UPDATE cgk.usage_progress SET counted_until = closing, closing = NULL, before_xid = NULL;

-- name: note_rejected
INSERT INTO cgk.tenant_usage AS known (tenant_id, hour, rejected)
SELECT %(tenant_id)s, date_trunc('hour', now(), 'UTC'), %(runs)s
  FROM (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
ON CONFLICT (hour, tenant_id) DO UPDATE SET rejected = known.rejected + EXCLUDED.rejected;

-- name: used
-- By tenant, and by hour, day or month of UTC, or in all (by: NULL). tenant_id: NULL for all.
WITH found AS (
    SELECT tenant_id, hour, runs, failed, run_seconds, queue_seconds, rejected FROM cgk.tenant_usage
     WHERE hour >= %(since)s::timestamptz AND hour < %(until)s::timestamptz
       AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
    UNION ALL
    SELECT tenant_id, date_trunc('hour', closed_at, 'UTC'), {{used}}, 0 FROM cgk.run_history
     WHERE closed_at >= greatest(%(since)s::timestamptz, (SELECT counted_until FROM cgk.usage_progress))
       AND closed_at < %(until)s::timestamptz AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
     GROUP BY 1, 2
)
SELECT tenant_id, CASE WHEN %(by)s::text IS NOT NULL THEN date_trunc(%(by)s, hour, 'UTC') END AS begin,
       sum(runs)::bigint AS runs, sum(failed)::bigint AS failed, sum(run_seconds) AS run_seconds,
       sum(queue_seconds) AS queue_seconds, sum(rejected)::bigint AS rejected
  FROM found GROUP BY 1, 2 ORDER BY 2 NULLS FIRST, run_seconds DESC, tenant_id;

-- name: last_hour
-- The hour that was counted last: of the tenants that ran longest, the others together as ''.
WITH ranked AS (
    SELECT u.*, row_number() OVER (ORDER BY run_seconds DESC, runs DESC, tenant_id) <= %(top)s AS is_top
      FROM cgk.tenant_usage u WHERE hour = (SELECT counted_until - interval '1 hour' FROM cgk.usage_progress)
)
SELECT CASE WHEN is_top THEN tenant_id ELSE '' END AS tenant_id, sum(runs)::bigint AS runs, sum(failed)::bigint AS failed,
       sum(run_seconds) AS run_seconds, sum(queue_seconds) AS queue_seconds, sum(rejected)::bigint AS rejected
  FROM ranked GROUP BY 1 ORDER BY 1;

-- name: forget_usage
DELETE FROM cgk.tenant_usage WHERE hour < now() - make_interval(days => %(days)s);
