-- How many runs each tenant sent and closed, by minutes, hours and days; the same of each event and job; and how long queues are. The
-- leader counts now and then out of the record; the dashboard reads it. cgk_tasks/runs/counts.py and cgk_tasks/runs/depths.py call these.

-- name: lock_progress
-- is_over: whether nobody can add a run any more that was sent or closed before seen_at. by_work: whether there are tables for what is
-- counted by event and job.
SELECT sure_until, now() AS now, seen_at,
       seen_xid IS NOT NULL AND pg_snapshot_xmin(pg_current_snapshot()) >= seen_xid AS is_over,
       to_regclass('cgk.work_times') IS NOT NULL AS by_work
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

-- fragment: bucket_of(interval)
-- Lengths of time by a quarter of a doubling, from 0.1 ms on: cgk_tasks/runs/work_times.py says which length each stands for.
floor(ln(greatest(extract(epoch FROM {interval})::float8, 0.0001) * 10000) * 4 / ln(2::float8))::int

-- fragment: each
-- Closed runs are found by tenant, with the index that the history has for that; sent ones by their ids, which are in the order of
-- time, and those of other producers by an index of their own.
closed AS (
    SELECT t.id AS tenant_id, h.* FROM cgk.tenants t, LATERAL (
        SELECT {{minute_of(closed_at)}} AS minute, state, {{failed_attempts}} AS retried,
               (started_at IS NOT NULL)::int AS began, event, coalesce(job, '') AS job,
               closed_at, started_at, run_at, created_at,
               worker_id IS NOT NULL AND state IN ('completed', 'failed') AS is_timed
          FROM cgk.run_history
         WHERE tenant_id = t.id AND closed_at >= %(begin)s::timestamptz AND closed_at < %(end)s::timestamptz OFFSET 0) AS h
), sent AS (
    SELECT tenant_id, {{minute_of({{sent_at}})}} AS minute, event FROM cgk.runs
     WHERE id >= %(begin_id)s::uuid AND id < %(end_id)s::uuid AND {{tells_time}}
    UNION ALL
    SELECT tenant_id, {{minute_of({{sent_at}})}}, event FROM cgk.run_history
     WHERE id >= %(begin_id)s::uuid AND id < %(end_id)s::uuid AND {{tells_time}}
       AND closed_at >= %(begin)s::timestamptz - interval '1 hour'
    UNION ALL
    SELECT tenant_id, {{minute_of(created_at)}}, event FROM cgk.runs
     WHERE created_at >= %(begin)s::timestamptz AND created_at < %(end)s::timestamptz AND NOT {{tells_time}}
    UNION ALL
    SELECT tenant_id, {{minute_of(created_at)}}, event FROM cgk.run_history
     WHERE created_at >= %(begin)s::timestamptz AND created_at < %(end)s::timestamptz AND NOT {{tells_time}}
       AND closed_at >= %(begin)s::timestamptz - interval '1 hour'
), each AS (
    SELECT tenant_id, minute, event, '' AS job, NULL::int AS ran, NULL::int AS waited, 1 AS accepted, 0 AS started,
           0 AS retried, 0 AS closed, 0 AS completed, 0 AS failed, 0 AS cancelled FROM sent
    UNION ALL
    SELECT tenant_id, minute, event, job,
           CASE WHEN is_timed THEN {{bucket_of(closed_at - started_at)}} END,
           CASE WHEN is_timed THEN {{bucket_of(started_at - greatest(run_at, created_at))}} END,
           0, began + retried, retried, 1, (state = 'completed')::int, (state = 'failed')::int,
           (state = 'cancelled')::int FROM closed
)

-- fragment: sums
sum(accepted) AS accepted, sum(started) AS started, sum(retried) AS retried, sum(closed) AS closed,
sum(completed) AS completed, sum(failed) AS failed, sum(cancelled) AS cancelled

-- fragment: minutes_of_tenants
INSERT INTO cgk.run_counts AS known
       (seconds, tenant_id, begin, accepted, started, retried, closed, completed, failed, cancelled)
SELECT 60, tenant_id, minute, accepted, started, retried, closed, completed, failed, cancelled FROM counted
 WHERE what = 'tenant' AND minute >= %(kept)s::timestamptz ORDER BY tenant_id, minute
ON CONFLICT (seconds, tenant_id, begin) DO UPDATE
   SET accepted = EXCLUDED.accepted, started = EXCLUDED.started, retried = EXCLUDED.retried,
       closed = EXCLUDED.closed, completed = EXCLUDED.completed, failed = EXCLUDED.failed,
       cancelled = EXCLUDED.cancelled
 WHERE (known.accepted, known.started, known.retried, known.closed) IS DISTINCT FROM
       (EXCLUDED.accepted, EXCLUDED.started, EXCLUDED.retried, EXCLUDED.closed)

-- fragment: hours_of_tenants
INSERT INTO cgk.run_counts AS known
       (seconds, tenant_id, begin, accepted, started, retried, closed, completed, failed, cancelled)
SELECT g.seconds, tenant_id, date_bin(make_interval(secs => g.seconds), minute, '2000-01-01Z'), sum(accepted),
       sum(started), sum(retried), sum(closed), sum(completed), sum(failed), sum(cancelled)
  FROM counted, (VALUES (3600), (86400)) AS g (seconds)
 WHERE what = 'tenant' AND minute < %(sure)s::timestamptz
 GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
ON CONFLICT (seconds, tenant_id, begin) DO UPDATE
   SET accepted = known.accepted + EXCLUDED.accepted, started = known.started + EXCLUDED.started,
       retried = known.retried + EXCLUDED.retried, closed = known.closed + EXCLUDED.closed,
       completed = known.completed + EXCLUDED.completed, failed = known.failed + EXCLUDED.failed,
       cancelled = known.cancelled + EXCLUDED.cancelled

-- name: count_by_tenant
-- Counts the minutes of a time anew, by tenant. sure: minutes before it are added to the hours and days, which happens once. kept:
-- minutes before it are counted for these alone. For what is longer ago than is counted by event and
-- job, and for a database that has no tables for that yet.
WITH {{each}}, counted AS MATERIALIZED (
    SELECT 'tenant' AS what, coalesce(tenant_id, '') AS tenant_id, minute, {{sums}}
      FROM each, (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
     GROUP BY GROUPING SETS ((tenant_id, minute), (minute))
), minutes AS ({{minutes_of_tenants}})
{{hours_of_tenants}};

-- name: count
-- The same, and by event and job, in one look at the runs. What was sent is counted by its event alone, without a job. kept_by_work:
-- as kept, of those. A run is in one row of work_counts, and in one of work_times for how long it ran, and one for how long it waited.
WITH {{each}}, counted AS MATERIALIZED (
    SELECT CASE grouping(tenant_id, event, ran, waited)
                WHEN 11 THEN 'work' WHEN 9 THEN 'ran' WHEN 10 THEN 'waited' ELSE 'tenant' END AS what,
           coalesce(tenant_id, '') AS tenant_id, event, job, coalesce(ran, waited) AS bucket, minute, {{sums}}
      FROM each, (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
     GROUP BY GROUPING SETS ((tenant_id, minute), (minute), (event, job, minute), (event, job, minute, ran),
                             (event, job, minute, waited))
), times AS (
    SELECT event, job, minute, bucket, sum(closed) FILTER (WHERE what = 'ran') AS ran,
           sum(closed) FILTER (WHERE what = 'waited') AS waited
      FROM counted WHERE what IN ('ran', 'waited') AND bucket IS NOT NULL GROUP BY event, job, minute, bucket
), minutes AS ({{minutes_of_tenants}}
), minutes_of_work AS (
    INSERT INTO cgk.work_counts AS known
           (seconds, event, job, begin, accepted, started, retried, closed, completed, failed, cancelled)
    SELECT 60, event, job, minute, accepted, started, retried, closed, completed, failed, cancelled FROM counted
     WHERE what = 'work' AND minute >= %(kept_by_work)s::timestamptz ORDER BY event, job, minute
    ON CONFLICT (seconds, event, job, begin) DO UPDATE
       SET accepted = EXCLUDED.accepted, started = EXCLUDED.started, retried = EXCLUDED.retried,
           closed = EXCLUDED.closed, completed = EXCLUDED.completed, failed = EXCLUDED.failed,
           cancelled = EXCLUDED.cancelled
     WHERE (known.accepted, known.started, known.retried, known.closed) IS DISTINCT FROM
           (EXCLUDED.accepted, EXCLUDED.started, EXCLUDED.retried, EXCLUDED.closed)
), minutes_of_times AS (
    INSERT INTO cgk.work_times AS known (seconds, event, job, begin, bucket, ran, waited)
    SELECT 60, event, job, minute, bucket, coalesce(ran, 0), coalesce(waited, 0) FROM times
     WHERE minute >= %(kept_by_work)s::timestamptz ORDER BY event, job, minute, bucket
    ON CONFLICT (seconds, event, job, begin, bucket) DO UPDATE SET ran = EXCLUDED.ran, waited = EXCLUDED.waited
     WHERE (known.ran, known.waited) IS DISTINCT FROM (EXCLUDED.ran, EXCLUDED.waited)
), hours_of_work AS (
    INSERT INTO cgk.work_counts AS known
           (seconds, event, job, begin, accepted, started, retried, closed, completed, failed, cancelled)
    SELECT 3600, event, job, date_bin('1 hour', minute, '2000-01-01Z') AS hour, {{sums}}
      FROM counted WHERE what = 'work' AND minute < %(sure)s::timestamptz
     GROUP BY event, job, hour ORDER BY event, job, hour
    ON CONFLICT (seconds, event, job, begin) DO UPDATE
       SET accepted = known.accepted + EXCLUDED.accepted, started = known.started + EXCLUDED.started,
           retried = known.retried + EXCLUDED.retried, closed = known.closed + EXCLUDED.closed,
           completed = known.completed + EXCLUDED.completed, failed = known.failed + EXCLUDED.failed,
           cancelled = known.cancelled + EXCLUDED.cancelled
), hours_of_times AS (
    INSERT INTO cgk.work_times AS known (seconds, event, job, begin, bucket, ran, waited)
    SELECT 3600, event, job, date_bin('1 hour', minute, '2000-01-01Z') AS hour, bucket, coalesce(sum(ran), 0),
           coalesce(sum(waited), 0)
      FROM times WHERE minute < %(sure)s::timestamptz
     GROUP BY event, job, hour, bucket ORDER BY event, job, hour, bucket
    ON CONFLICT (seconds, event, job, begin, bucket) DO UPDATE
       SET ran = known.ran + EXCLUDED.ran, waited = known.waited + EXCLUDED.waited
)
{{hours_of_tenants}};

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

-- name: forget_work
-- Minutes after three hours, once they are in their hours; and hours after nine days. The pages show a week.
WITH counts AS (
    DELETE FROM cgk.work_counts
     WHERE (seconds = 60 AND begin < least(now() - interval '3 hours', %(sure)s::timestamptz))
        OR (seconds = 3600 AND begin < now() - interval '9 days')
)
DELETE FROM cgk.work_times
 WHERE (seconds = 60 AND begin < least(now() - interval '3 hours', %(sure)s::timestamptz))
    OR (seconds = 3600 AND begin < now() - interval '9 days');

-- name: forget_depths
DELETE FROM cgk.queue_depths
 WHERE (seconds = 60 AND begin < now() - interval '48 hours')
    OR (seconds = 3600 AND begin < now() - make_interval(days => %(days)s));
