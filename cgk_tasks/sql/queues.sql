-- name: pause_queue
-- A queue that is paused already stays as it is: since then, and by whom it was.
INSERT INTO cgk.paused_queues (queue, paused_by, reason) VALUES (%(queue)s, %(by)s, %(reason)s)
ON CONFLICT (queue) DO UPDATE SET queue = EXCLUDED.queue
RETURNING queue, paused_at, paused_by, reason;

-- name: resume_queue
DELETE FROM cgk.paused_queues WHERE queue = %(queue)s RETURNING queue;

-- name: paused_queues
SELECT queue, paused_at, paused_by, reason FROM cgk.paused_queues ORDER BY queue;

-- name: served
-- Queues that a living worker listens to. timeout: seconds of silence after which a worker counts as dead.
SELECT DISTINCT unnest(queues) AS queue FROM cgk.workers
 WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s);

-- name: list_queues
-- Every queue that has an open run, a living worker or a pause, or is named by the settings. One pass over the open runs.
-- workers: without those that are drained.
-- timeout: seconds of silence after which a worker counts as dead.
WITH open AS (
    SELECT queue, count(*) FILTER (WHERE state = 'pending') AS waiting,
           count(*) FILTER (WHERE state = 'running' AND worker_id IS NOT NULL) AS running,
           count(*) FILTER (WHERE state = 'held') AS held,
           count(*) FILTER (WHERE state IN ('scheduled', 'retrying')) AS later,
           extract(epoch FROM now() - min(greatest(run_at, created_at))
                   FILTER (WHERE state IN ('pending', 'held') AND run_at <= now()))::float8 AS oldest_seconds
      FROM cgk.runs GROUP BY queue
), listening AS (
    SELECT queue, count(*) AS workers FROM cgk.workers w, unnest(queues) AS queue
     WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s) AND {{takes_runs(w)}} GROUP BY queue
), known AS (
    SELECT queue FROM open UNION SELECT queue FROM listening UNION SELECT queue FROM cgk.paused_queues
    UNION SELECT unnest(%(named)b::text[])
)
SELECT queue, coalesce(waiting, 0) AS waiting, coalesce(running, 0) AS running, coalesce(held, 0) AS held,
       coalesce(later, 0) AS later, oldest_seconds, coalesce(workers, 0) AS workers, paused_at, paused_by, reason
  FROM known LEFT JOIN open USING (queue) LEFT JOIN listening USING (queue) LEFT JOIN cgk.paused_queues USING (queue)
 ORDER BY queue;
