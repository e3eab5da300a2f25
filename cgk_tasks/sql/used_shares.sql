-- What tenants had of each queue's workers in the last hour. The leader looks now and then at what every process executes;
-- the dashboard reads it. cgk_tasks/admission/used_shares.py calls these.

-- name: note
-- What each process executes now stands for the seconds since the last look. It executes the runs of a packet one after
-- another, and which of them now nobody knows: each counts for as much as the others. Threads are the worker's own process,
-- and as many at once as the worker says. Reads what is running by its index, whatever else is open.
WITH held AS (
    SELECT r.queue, r.tenant_id, count(*) AS runs, sum(count(*)) OVER process AS of_process,
           CASE WHEN r.worker_pid = w.pid THEN coalesce(w.processes, 1) ELSE 1 END AS at_once
      FROM cgk.workers w, LATERAL (
           SELECT queue, tenant_id, worker_pid FROM cgk.runs
            WHERE worker_id = w.id AND state = 'running' OFFSET 0) AS r
     WHERE w.heartbeat_at > now() - make_interval(secs => %(timeout)s)
     GROUP BY w.id, w.pid, w.processes, r.worker_pid, r.queue, r.tenant_id
    WINDOW process AS (PARTITION BY w.id, r.worker_pid)
)
INSERT INTO cgk.used_shares AS known (queue, minute, tenant_id, seconds)
SELECT queue, date_trunc('minute', now()), tenant_id,
       %(seconds)s::float8 * sum(runs * least(at_once, of_process)::float8 / of_process::float8)
  FROM held, (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
 GROUP BY queue, tenant_id ORDER BY queue, tenant_id
ON CONFLICT (queue, minute, tenant_id) DO UPDATE SET seconds = known.seconds + EXCLUDED.seconds;

-- name: forget
DELETE FROM cgk.used_shares WHERE minute < now() - interval '70 minutes';

-- name: of_queue
-- By tenant and minute since then, the tenants that had most, and the others together as ''. tenants: how many had any.
WITH minutes AS MATERIALIZED (
    SELECT tenant_id, minute, seconds FROM cgk.used_shares WHERE queue = %(queue)s AND minute >= %(since)s
), ranked AS (
    SELECT tenant_id, row_number() OVER (ORDER BY sum(seconds) DESC, tenant_id) AS place FROM minutes GROUP BY tenant_id
)
SELECT CASE WHEN r.place <= %(top)s THEN tenant_id ELSE '' END AS name, least(r.place, %(top)s + 1) AS place, m.minute,
       sum(m.seconds) AS seconds, (SELECT count(*) FROM ranked) AS names
  FROM minutes m JOIN ranked r USING (tenant_id) GROUP BY 1, 2, 3 ORDER BY 2, 3;

-- name: of_tenant
-- One tenant's, by queue and minute, the queues with most first.
WITH minutes AS MATERIALIZED (
    SELECT queue, minute, seconds FROM cgk.used_shares
     WHERE queue = ANY(%(queues)b::text[]) AND minute >= %(since)s AND tenant_id = %(tenant_id)s
), ranked AS (
    SELECT queue, row_number() OVER (ORDER BY sum(seconds) DESC, queue) AS place FROM minutes GROUP BY queue
)
SELECT CASE WHEN r.place <= %(top)s THEN queue ELSE '' END AS name, least(r.place, %(top)s + 1) AS place, m.minute,
       sum(m.seconds) AS seconds, (SELECT count(*) FROM ranked) AS names
  FROM minutes m JOIN ranked r USING (queue) GROUP BY 1, 2, 3 ORDER BY 2, 3;

-- name: totals
-- Of these queues: what all tenants had together, and what one had.
SELECT queue, sum(seconds) AS seconds, coalesce(sum(seconds) FILTER (WHERE tenant_id = %(tenant_id)s), 0) AS of_tenant
  FROM cgk.used_shares WHERE queue = ANY(%(queues)b::text[]) AND minute >= %(since)s GROUP BY queue;

-- name: of_tenants
-- What these tenants had in a queue.
SELECT tenant_id, sum(seconds) AS seconds FROM cgk.used_shares
 WHERE queue = %(queue)s AND minute >= %(since)s AND tenant_id = ANY(%(tenants)b::text[]) GROUP BY tenant_id;
