-- What a deploy check reads of open runs. It changes nothing, and PostgreSQL sees to that.

-- name: read_only
SET TRANSACTION READ ONLY;

-- name: has_steps
SELECT to_regclass('cgk.steps') IS NOT NULL AS yes;

-- name: versions_of_open_runs
-- How many open runs there are of each workflow, by what their first step says: the version.
SELECT r.job, b.tenant_id, b.key_id, b.sealed_result AS sealed_step_result, count(*)::int AS runs,
       (array_agg(r.id::text))[:%(examples)s] AS examples
  FROM cgk.runs r JOIN cgk.steps b ON b.run_id = r.id AND b.kind = 'begin'
 WHERE r.job IS NOT NULL
 GROUP BY r.job, b.tenant_id, b.key_id, b.sealed_result;

-- name: steps_of_open_runs
-- The same by the names of the steps that they have done or wait for.
SELECT r.job, b.tenant_id, b.key_id, b.sealed_result AS sealed_step_result, s.name, count(DISTINCT r.id)::int AS runs,
       (array_agg(DISTINCT r.id::text))[:%(examples)s] AS examples
  FROM cgk.runs r JOIN cgk.steps b ON b.run_id = r.id AND b.kind = 'begin'
  JOIN cgk.steps s ON s.run_id = r.id AND s.kind <> ALL(%(internal)s::text[])
 WHERE r.job IS NOT NULL
 GROUP BY r.job, b.tenant_id, b.key_id, b.sealed_result, s.name;

-- name: workflows_of_open_runs
SELECT DISTINCT r.job FROM cgk.runs r JOIN cgk.steps b ON b.run_id = r.id AND b.kind = 'begin' WHERE r.job IS NOT NULL;

-- name: runs_to_replay
-- The oldest that have begun and are not on, with their tenants.
SELECT r.id::text, r.tenant_id, r.event, r.key_id, r.sealed_payload, t.id AS tenant, t.status, t.isolation, t.schema_name,
       t.role_name
  FROM cgk.runs r JOIN cgk.tenants t ON t.id = r.tenant_id
 WHERE r.job = %(job)s AND r.state <> 'running'
   AND EXISTS (SELECT FROM cgk.steps b WHERE b.run_id = r.id AND b.kind = 'begin')
 ORDER BY r.id LIMIT %(limit)s;

-- name: events_of_open_runs
SELECT DISTINCT event FROM cgk.runs;

-- name: payloads_of_open_runs
SELECT id::text, tenant_id, event, key_id, sealed_payload FROM cgk.runs
 WHERE event = %(event)s AND (%(after)s::uuid IS NULL OR id > %(after)s::uuid)
 ORDER BY id LIMIT %(limit)s;
