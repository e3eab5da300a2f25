-- name: server
-- Reads settings of the server and rights of the role only.
SELECT current_setting('server_version_num')::int AS version_number,
       current_setting('server_version') AS version,
       has_database_privilege(current_database(), 'CREATE') AS may_create_schemas,
       (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user) AS may_create_roles,
       to_regnamespace('cgk') IS NOT NULL AS has_schema,
       current_user::text AS role, current_database()::text AS database;

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

-- name: unserved_queues
-- Queues, but not paused ones, in which due runs wait while no living worker listens.
SELECT queue, count(*) AS runs FROM cgk.runs r
 WHERE state = 'pending' AND NOT queue = ANY(%(queues)s::text[])
   AND NOT EXISTS (SELECT FROM cgk.paused_queues q WHERE q.queue = r.queue)
 GROUP BY queue ORDER BY queue;

-- name: open_runs
-- Runs that only our own workers will end.
SELECT count(*) AS runs FROM cgk.runs;
