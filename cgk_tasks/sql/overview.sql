-- What the first page of the dashboard shows, read from what the leader has counted: some hundred rows, however many runs there
-- are. cgk_tasks/dashboard/data/overview.py calls these.

-- name: sure_until
SELECT sure_until FROM cgk.count_progress;

-- name: counts
-- By bars of so many seconds. tenant_id: '' for all.
SELECT date_bin(make_interval(secs => %(bar)s::float8), begin, '2000-01-01Z') AS begin, sum(accepted)::bigint AS accepted,
       sum(started)::bigint AS started, sum(retried)::bigint AS retried, sum(closed)::bigint AS closed,
       sum(completed)::bigint AS completed, sum(failed)::bigint AS failed, sum(cancelled)::bigint AS cancelled
  FROM cgk.run_counts WHERE tenant_id = %(tenant_id)s AND {{counted_since}} GROUP BY 1 ORDER BY 1;

-- name: failing
-- The tenants of which most runs failed. By the index of rows with failures.
SELECT tenant_id, sum(failed)::bigint AS failed FROM cgk.run_counts
 WHERE failed > 0 AND tenant_id <> '' AND {{counted_since}} GROUP BY tenant_id ORDER BY 2 DESC, 1 LIMIT %(top)s;

-- name: busiest
-- The tenants that had most of the workers: what is added to hours and days, and the half hours that are not. whole: of all of
-- them.
SELECT tenant_id, sum(busy) AS seconds, sum(sum(busy)) OVER () AS whole
  FROM (SELECT tenant_id, busy_seconds AS busy FROM cgk.run_counts
         WHERE seconds = %(seconds)s AND begin >= %(since)s::timestamptz AND busy_seconds > 0 AND tenant_id <> ''
        UNION ALL
        SELECT tenant_id, seconds FROM cgk.used_half_hours
         WHERE half_hour >= %(since)s::timestamptz
           AND (%(seconds)s = 60 OR half_hour >= (SELECT date_bin('1 hour', sure_until, '2000-01-01Z')
                                                    FROM cgk.count_progress))) AS used
 GROUP BY tenant_id ORDER BY 2 DESC, 1 LIMIT %(top)s;

-- name: depths
-- By queue, the most that waited in each bar, and the longest wait.
SELECT queue, date_bin(make_interval(secs => %(bar)s::float8), begin, '2000-01-01Z') AS begin,
       max(waiting) AS waiting, max(oldest_seconds) AS oldest_seconds
  FROM cgk.queue_depths WHERE seconds = %(seconds)s AND begin >= %(since)s::timestamptz
 GROUP BY 1, 2 ORDER BY 1, 2;

-- name: workers
SELECT count(*) AS workers, coalesce(sum(coalesce(processes, 1)), 0)::bigint AS processes FROM cgk.workers
 WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s);
