-- How many runs each tenant sent and closed, by minutes, hours and days; and how long queues are. The leader counts now and then
-- out of the record; the dashboard reads it. cgk_tasks/runs/counts.py and cgk_tasks/runs/depths.py call these.

-- name: lock_progress
-- is_over: whether nobody can add a run any more that was sent or closed before seen_at.
SELECT sure_until, now() AS now, seen_at,
       seen_xid IS NOT NULL AND pg_snapshot_xmin(pg_current_snapshot()) >= seen_xid AS is_over
  FROM cgk.count_progress FOR UPDATE SKIP LOCKED;

-- fragment: sent_at
to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)

-- fragment: tells_time
(get_byte(uuid_send(id), 6) & 240) = 112

-- fragment: minute_of(at)
date_bin('1 minute', {at}, '2000-01-01Z')

-- fragment: failed_attempts
-- Of a closed run: those that another attempt followed, deaths of processes included.
greatest(coalesce(cardinality(sealed_errors), 0) + coalesce(errors_left_out, 0) - (state = 'failed')::int, 0)

-- name: count
-- Counts the minutes of a time anew. Closed runs are found by tenant, with the index that the history has for that; sent ones by
-- their ids, which are in the order of time, and those of other producers by an index of their own. sure: minutes before it are
-- added to the hours and days, which happens once. kept: minutes before it are counted for these alone.
WITH closed AS (
    SELECT t.id AS tenant_id, h.* FROM cgk.tenants t, LATERAL (
        SELECT {{minute_of(closed_at)}} AS minute, state, {{failed_attempts}} AS retried,
               (started_at IS NOT NULL)::int AS began
          FROM cgk.run_history
         WHERE tenant_id = t.id AND closed_at >= %(begin)s::timestamptz AND closed_at < %(end)s::timestamptz OFFSET 0) AS h
), sent AS (
    SELECT tenant_id, {{minute_of({{sent_at}})}} AS minute FROM cgk.runs
     WHERE id >= %(begin_id)s::uuid AND id < %(end_id)s::uuid AND {{tells_time}}
    UNION ALL
    SELECT tenant_id, {{minute_of({{sent_at}})}} FROM cgk.run_history
     WHERE id >= %(begin_id)s::uuid AND id < %(end_id)s::uuid AND {{tells_time}}
       AND closed_at >= %(begin)s::timestamptz - interval '1 hour'
    UNION ALL
    SELECT tenant_id, {{minute_of(created_at)}} FROM cgk.runs
     WHERE created_at >= %(begin)s::timestamptz AND created_at < %(end)s::timestamptz AND NOT {{tells_time}}
    UNION ALL
    SELECT tenant_id, {{minute_of(created_at)}} FROM cgk.run_history
     WHERE created_at >= %(begin)s::timestamptz AND created_at < %(end)s::timestamptz AND NOT {{tells_time}}
       AND closed_at >= %(begin)s::timestamptz - interval '1 hour'
), each AS (
    SELECT tenant_id, minute, 1 AS accepted, 0 AS started, 0 AS retried, 0 AS closed, 0 AS completed, 0 AS failed,
           0 AS cancelled FROM sent
    UNION ALL
    SELECT tenant_id, minute, 0, began + retried, retried, 1, (state = 'completed')::int, (state = 'failed')::int,
           (state = 'cancelled')::int FROM closed
), counted AS MATERIALIZED (
    SELECT coalesce(tenant_id, '') AS tenant_id, minute, sum(accepted) AS accepted, sum(started) AS started,
           sum(retried) AS retried, sum(closed) AS closed, sum(completed) AS completed, sum(failed) AS failed,
           sum(cancelled) AS cancelled
      FROM each, (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
     GROUP BY GROUPING SETS ((tenant_id, minute), (minute))
), minutes AS (
    INSERT INTO cgk.run_counts AS known
           (seconds, tenant_id, begin, accepted, started, retried, closed, completed, failed, cancelled)
    SELECT 60, tenant_id, minute, accepted, started, retried, closed, completed, failed, cancelled FROM counted
     WHERE minute >= %(kept)s::timestamptz ORDER BY tenant_id, minute
    ON CONFLICT (seconds, tenant_id, begin) DO UPDATE
       SET accepted = EXCLUDED.accepted, started = EXCLUDED.started, retried = EXCLUDED.retried,
           closed = EXCLUDED.closed, completed = EXCLUDED.completed, failed = EXCLUDED.failed,
           cancelled = EXCLUDED.cancelled
     WHERE (known.accepted, known.started, known.retried, known.closed) IS DISTINCT FROM
           (EXCLUDED.accepted, EXCLUDED.started, EXCLUDED.retried, EXCLUDED.closed)
)
INSERT INTO cgk.run_counts AS known
       (seconds, tenant_id, begin, accepted, started, retried, closed, completed, failed, cancelled)
SELECT g.seconds, tenant_id, date_bin(make_interval(secs => g.seconds), minute, '2000-01-01Z'), sum(accepted),
       sum(started), sum(retried), sum(closed), sum(completed), sum(failed), sum(cancelled)
  FROM counted, (VALUES (3600), (86400)) AS g (seconds)
 WHERE minute < %(sure)s::timestamptz
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (seconds, tenant_id, begin) DO UPDATE
   SET accepted = known.accepted + EXCLUDED.accepted, started = known.started + EXCLUDED.started,
       retried = known.retried + EXCLUDED.retried, closed = known.closed + EXCLUDED.closed,
       completed = known.completed + EXCLUDED.completed, failed = known.failed + EXCLUDED.failed,
       cancelled = known.cancelled + EXCLUDED.cancelled;

-- name: add_busy
-- What tenants had of the workers in the hours that are over, once: of the leader's looks at them.
WITH used AS (
    SELECT tenant_id, date_bin('1 hour', half_hour, '2000-01-01Z') AS hour, sum(seconds) AS busy
      FROM cgk.used_half_hours
     WHERE half_hour >= date_bin('1 hour', %(before)s::timestamptz, '2000-01-01Z')
       AND half_hour < date_bin('1 hour', %(sure)s::timestamptz, '2000-01-01Z')
     GROUP BY 1, 2
), added AS (
    SELECT g.seconds, tenant_id, date_bin(make_interval(secs => g.seconds), hour, '2000-01-01Z') AS begin, busy
      FROM used, (VALUES (3600), (86400)) AS g (seconds)
)
INSERT INTO cgk.run_counts AS known (seconds, tenant_id, begin, busy_seconds)
SELECT seconds, coalesce(tenant_id, ''), begin, sum(busy) FROM added
 GROUP BY GROUPING SETS ((seconds, tenant_id, begin), (seconds, begin)) ORDER BY 1, 2, 3
ON CONFLICT (seconds, tenant_id, begin) DO UPDATE SET busy_seconds = known.busy_seconds + EXCLUDED.busy_seconds;

-- name: note_progress
UPDATE cgk.count_progress
   SET sure_until = %(sure)s::timestamptz,
       seen_at = CASE WHEN %(is_over)s OR seen_at IS NULL THEN now() ELSE seen_at END,
       seen_xid = CASE WHEN %(is_over)s OR seen_at IS NULL THEN pg_snapshot_xmax(pg_current_snapshot()) ELSE seen_xid END;

-- name: note_depths
-- One pass over the open runs: what is due in each queue and has not begun. Of several looks in a time the greatest is kept.
WITH waiting AS (
    SELECT queue, count(*) AS waiting,
           greatest(extract(epoch FROM now() - min(greatest(run_at, created_at))), 0)::float8 AS oldest_seconds
      FROM cgk.runs, (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
     WHERE state IN ('pending', 'held') AND run_at <= now() GROUP BY queue
)
INSERT INTO cgk.queue_depths AS known (seconds, queue, begin, waiting, oldest_seconds)
SELECT g.seconds, queue, date_bin(make_interval(secs => g.seconds), now(), '2000-01-01Z'), waiting, oldest_seconds
  FROM waiting, (VALUES (60), (3600)) AS g (seconds) ORDER BY 1, 3, 2
ON CONFLICT (seconds, begin, queue) DO UPDATE
   SET waiting = greatest(known.waiting, EXCLUDED.waiting),
       oldest_seconds = greatest(known.oldest_seconds, EXCLUDED.oldest_seconds);

-- name: forget_counts
-- Minutes after two days; hours and days with the runs that they count.
DELETE FROM cgk.run_counts
 WHERE (seconds = 60 AND begin < now() - interval '48 hours')
    OR (seconds = 3600 AND begin < now() - make_interval(days => %(days)s))
    OR (seconds = 86400 AND begin < now() - make_interval(days => %(days)s));

-- name: forget_depths
DELETE FROM cgk.queue_depths
 WHERE (seconds = 60 AND begin < now() - interval '48 hours')
    OR (seconds = 3600 AND begin < now() - make_interval(days => %(days)s));
