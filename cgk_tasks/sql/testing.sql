-- What `prove_idempotent` asks of the runs of its own tenants, in a database for tests.

-- name: open_runs
-- In the order in which they are due. is_held: whether a worker holds it. is_parent: whether it waits for its children alone.
SELECT id::text, event, state, worker_id IS NOT NULL AS is_held, children_open > 0 AS is_parent,
       isfinite(run_at) AS has_time
  FROM cgk.runs WHERE tenant_id = %(tenant_id)s ORDER BY run_at, id;

-- name: runs_of_tenant
-- All there ever were.
SELECT id::text, event, job, state FROM cgk.runs WHERE tenant_id = %(tenant_id)s
UNION ALL
SELECT id::text, event, job, state FROM cgk.run_history WHERE tenant_id = %(tenant_id)s;

-- name: let_steps_be_due
-- What a run waits for next, by the clock, has come; its later times stay as they are. An effect that is to be looked for
-- later waits with its intent.
UPDATE cgk.steps s SET wake_at = now()
  FROM cgk.runs r
 WHERE r.id = %(id)s::uuid AND s.run_id = r.id AND s.state IN ('begun', 'waiting', 'intent')
   AND s.wake_at <= r.run_at;

-- name: effects_without_answer
-- The effects of which a person is asked whether they happened.
SELECT s.name FROM cgk.steps s JOIN cgk.runs r ON r.id = s.run_id
 WHERE r.id = %(id)s::uuid AND s.kind = 'effect' AND s.state = 'waiting';

-- name: end_backends
-- What a process has left behind that died. Waits until PostgreSQL has rolled back.
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
 WHERE pid = ANY(%(pids)s::int[]) AND datname = current_database() AND pid <> pg_backend_pid();

-- name: tables_of_tenant
-- Of the session's schema, with the columns that differ between two executions that do the same: numbers of a sequence,
-- which a transaction that is rolled back uses up, and references to them.
SELECT c.relname AS name,
       ARRAY(SELECT a.attname::text
               FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                AND (a.attidentity <> '' OR pg_get_expr(d.adbin, d.adrelid) LIKE 'nextval(%%'
                     OR EXISTS (SELECT FROM pg_constraint k
                                 WHERE k.conrelid = c.oid AND k.contype = 'f' AND a.attnum = ANY(k.conkey)))
       ) AS numbered
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND has_table_privilege(c.oid, 'SELECT')
 ORDER BY c.relname;
