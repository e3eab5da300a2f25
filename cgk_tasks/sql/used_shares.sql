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
            WHERE {{held_by(w.id)}} OFFSET 0) AS r
     WHERE w.heartbeat_at > now() - make_interval(secs => %(timeout)s)
     GROUP BY w.id, w.pid, w.processes, r.worker_pid, r.queue, r.tenant_id
    WINDOW process AS (PARTITION BY w.id, r.worker_pid)
), used AS MATERIALIZED (
    SELECT queue, tenant_id,
           %(seconds)s::float8 * sum(runs * least(at_once, of_process)::float8 / of_process::float8) AS seconds
      FROM held, (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
     GROUP BY queue, tenant_id
), noted AS (
    INSERT INTO cgk.used_half_hours AS known (queue, half_hour, tenant_id, seconds)
    SELECT queue, date_bin('30 minutes', now(), '2000-01-01Z'), tenant_id, seconds FROM used ORDER BY queue, tenant_id
    ON CONFLICT (queue, half_hour, tenant_id) DO UPDATE SET seconds = known.seconds + EXCLUDED.seconds
)
INSERT INTO cgk.used_shares AS known (queue, tenant_id, minute, seconds)
SELECT queue, tenant_id, date_trunc('minute', now()), seconds
  FROM (SELECT queue, tenant_id, seconds FROM used
        UNION ALL
        SELECT queue, '', sum(seconds) FROM used GROUP BY queue) AS of_each_and_all
 ORDER BY queue, tenant_id
ON CONFLICT (queue, tenant_id, minute) DO UPDATE SET seconds = known.seconds + EXCLUDED.seconds;

-- name: forget
-- Half hours are kept until they are added to the hours of cgk.run_counts, which waits for the transactions that are open.
WITH half_hours AS (DELETE FROM cgk.used_half_hours WHERE half_hour < now() - interval '6 hours')
DELETE FROM cgk.used_shares WHERE minute < now() - interval '70 minutes';

-- name: of_queue
-- By tenant and minute since then: of the tenants that had most, and ('') of all together. The half hours tell which might
-- be those; their minutes decide. names: how many tenants had any.
WITH all_of_them AS MATERIALIZED (
    SELECT tenant_id, sum(seconds) AS seconds FROM cgk.used_half_hours
     WHERE queue = %(queue)s AND half_hour > %(since)s - interval '30 minutes' GROUP BY tenant_id
), minutes AS MATERIALIZED (
    SELECT tenant_id, minute, seconds FROM cgk.used_shares
     WHERE queue = %(queue)s AND minute >= %(since)s
       AND tenant_id = ANY(ARRAY(SELECT tenant_id FROM all_of_them ORDER BY seconds DESC, tenant_id LIMIT 4 * %(top)s))
), most AS (
    SELECT tenant_id, row_number() OVER (ORDER BY sum(seconds) DESC, tenant_id) AS place FROM minutes
     GROUP BY tenant_id ORDER BY place LIMIT %(top)s
)
SELECT tenant_id AS name, place, minute, seconds, (SELECT count(*) FROM all_of_them) AS names
  FROM minutes JOIN most USING (tenant_id)
UNION ALL
SELECT tenant_id, 0, minute, seconds, (SELECT count(*) FROM all_of_them) FROM cgk.used_shares
 WHERE queue = %(queue)s AND tenant_id = '' AND minute >= %(since)s
 ORDER BY place, minute;

-- name: of_tenant
-- One tenant's, by queue and minute, the queues with most first.
SELECT queue AS name, minute, seconds FROM cgk.used_shares
 WHERE queue = ANY(%(queues)b::text[]) AND tenant_id = %(tenant_id)s AND minute >= %(since)s
 ORDER BY sum(seconds) OVER (PARTITION BY queue) DESC, queue, minute;

-- name: sums
-- What these tenants, or ('') all together, had in these queues.
SELECT queue, tenant_id, sum(seconds) AS seconds FROM cgk.used_shares
 WHERE queue = ANY(%(queues)b::text[]) AND tenant_id = ANY(%(tenants)b::text[]) AND minute >= %(since)s
 GROUP BY queue, tenant_id;
