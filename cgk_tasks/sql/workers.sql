-- Workers as operators see them, and draining them. cgk_tasks/flow/workers.py calls these. What came after the first columns is read as
-- JSON, so that a database can be read that has not been migrated to the end yet.

-- name: list
-- The workers, and which of them dispatches. processes: of a worker of an earlier release. silent_seconds: since its last heartbeat.
SELECT w.id::text, w.name, w.pid, w.queues, w.started_at, w.heartbeat_at, w.revision,
       extract(epoch FROM now() - w.heartbeat_at)::float8 AS silent_seconds,
       coalesce((more ->> 'pool_size')::int, (more ->> 'processes')::int) AS pool_size, more -> 'memory' AS memory,
       (more ->> 'drain_wanted_at')::timestamptz AS drain_wanted_at, more ->> 'drain_wanted_by' AS drain_wanted_by,
       more ->> 'drain_reason' AS drain_reason, (more ->> 'drains_since')::timestamptz AS drains_since,
       (more ->> 'drained_at')::timestamptz AS drained_at,
       EXISTS (SELECT FROM cgk.leases l
                WHERE l.name = 'dispatcher' AND l.holder = w.id AND l.expires_at > now()) AS leads
  FROM cgk.workers w, LATERAL (SELECT to_jsonb(w) - 'executes' AS more) AS m
 WHERE %(worker)s::text IS NULL OR w.id::text = %(worker)s OR w.name = %(worker)s
 ORDER BY w.name, w.started_at, w.id
 LIMIT %(limit)s;

-- name: running
-- What these workers' processes run: of each process the runs that it claimed first, up to a limit, and how many it has. The runs of a
-- packet are claimed together, and executed one after another.
SELECT * FROM (
    SELECT r.id::text, r.worker_id::text, r.worker_pid AS pid, r.tenant_id, r.event, r.job, r.attempt, r.started_at,
           extract(epoch FROM now() - r.started_at)::float8 AS seconds,
           row_number() OVER (PARTITION BY r.worker_id, r.worker_pid ORDER BY r.started_at, r.id) AS nth,
           count(*) OVER (PARTITION BY r.worker_id, r.worker_pid) AS runs
      FROM unnest(%(workers)s::uuid[]) AS of (worker), LATERAL (
           SELECT * FROM cgk.runs WHERE {{held_by(of.worker)}} OFFSET 0) AS r) AS numbered
 WHERE nth <= %(limit)s
 ORDER BY worker_id, pid, nth;

-- name: drain
-- A worker that is to be drained already stays as it is: since then, and by whom it was.
UPDATE cgk.workers
   SET drain_wanted_at = coalesce(drain_wanted_at, now()),
       drain_wanted_by = CASE WHEN drain_wanted_at IS NULL THEN %(by)s ELSE drain_wanted_by END,
       drain_reason = CASE WHEN drain_wanted_at IS NULL THEN %(reason)s ELSE drain_reason END
 WHERE id = ANY(%(workers)s::uuid[])
RETURNING id::text, name;

-- name: take_runs_again
UPDATE cgk.workers SET drain_wanted_at = NULL, drain_wanted_by = NULL, drain_reason = NULL
 WHERE id = ANY(%(workers)s::uuid[]) AND drain_wanted_at IS NOT NULL
RETURNING id::text, name;
