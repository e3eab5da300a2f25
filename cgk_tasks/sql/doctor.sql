-- name: server
-- Reads settings of the server and rights of the role only.
SELECT current_setting('server_version_num')::int AS version_number,
       current_setting('server_version') AS version,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schemas,
       (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS may_create_roles,
       to_regnamespace('cgk') IS NOT NULL AS has_schema,
       current_user::text AS role, current_database()::text AS database;

-- name: oldest_transaction
-- Of this database, prepared ones included. Without pg_read_all_stats a role sees only those of its own roles.
SELECT * FROM (
    SELECT pid, NULL AS gid, state, coalesce(nullif(application_name, ''), 'a client without a name') AS application,
           extract(epoch FROM clock_timestamp() - xact_start)::float8 AS seconds
      FROM pg_stat_activity
     WHERE datname = current_database() AND backend_type = 'client backend' AND xact_start IS NOT NULL
       AND pid <> pg_backend_pid()
    UNION ALL
    SELECT NULL, gid, 'prepared', owner::text, extract(epoch FROM clock_timestamp() - prepared)::float8
      FROM pg_prepared_xacts WHERE database = current_database()) AS open
 ORDER BY seconds DESC LIMIT 1;

-- name: now
SELECT clock_timestamp() AS now;

-- name: tenants
-- Customers: the platform's own tenant is there in every database.
SELECT count(*) FILTER (WHERE status = 'active') AS active, count(*) FILTER (WHERE status = 'suspended') AS suspended
  FROM cgk.tenants
 WHERE source <> 'platform';

-- name: lease
-- The worker that leads, if its lease has not run out.
SELECT coalesce(w.name, l.holder::text) AS holder, (l.expires_at > now()) AS held
  FROM cgk.leases l LEFT JOIN cgk.workers w ON w.id = l.holder
 WHERE l.name = %(name)s;

-- fragment: unserved(in_lane)
SELECT queue, count(*) AS runs FROM cgk.runs r
 WHERE (state = 'pending' OR (state = 'held' AND {in_lane})) AND NOT queue = ANY(%(queues)b::text[])
   AND NOT EXISTS (SELECT FROM cgk.paused_queues q WHERE q.queue = r.queue)
 GROUP BY queue ORDER BY queue

-- name: unserved_queues
-- Queues, but not paused ones, in which due runs wait while no living worker listens.
{{unserved(lane_id IS NOT NULL)}};

-- name: unserved_queues_before_lanes
-- The same before cgk-tasks migrate --finish, while there are no lanes.
{{unserved(false)}};

-- name: unknown_events
-- Due runs that some of the living workers of their queue, or all, have no job for.
WITH due AS (
    SELECT event, job, queue, count(*) AS runs FROM cgk.runs WHERE state IN ('pending', 'held') GROUP BY event, job, queue
), looked_at AS (
    SELECT due.*, count(*) AS listening,
           count(*) FILTER (WHERE w.executes IS NULL OR concat_ws(':', due.event, due.job) = ANY(w.executes)) AS executing
      FROM due JOIN cgk.workers w ON due.queue = ANY(w.queues)
     WHERE w.heartbeat_at > now() - make_interval(secs => %(timeout)s)
     GROUP BY due.event, due.job, due.queue, due.runs
)
SELECT event, queue, sum(runs)::bigint AS runs, min(listening) AS listening, min(executing) AS executing
  FROM looked_at WHERE executing < listening
 GROUP BY event, queue ORDER BY event, queue;

-- name: unhandled_lately
-- What ended in the last day because no worker had a job for it.
SELECT event, queue, count(*) AS runs FROM cgk.run_history
 WHERE state = 'unhandled' AND closed_at > now() - interval '1 day'
 GROUP BY event, queue ORDER BY event, queue;

-- name: open_runs
-- Runs that only our own workers will end.
SELECT count(*) AS runs FROM cgk.runs;
