-- name: get_tenant
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants WHERE id = %(id)s;

-- name: get_tenants
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants WHERE id = ANY(%(ids)b::text[]);

-- name: list_tenants
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants ORDER BY id;

-- name: active_tenants
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants
 WHERE status = 'active' AND source <> 'platform' ORDER BY id;

-- name: add_platform
-- Works for all tenants: without a schema and a role of its own, as no customer is. Whoever added a customer of this id has
-- put its mark on this row, before such ids were refused.
INSERT INTO cgk.tenants (id, isolation, schema_name, source) VALUES (%(id)s, 'search_path', 'public', 'platform')
ON CONFLICT (id) DO UPDATE SET source = EXCLUDED.source
 WHERE tenants.source <> EXCLUDED.source AND tenants.schema_name = EXCLUDED.schema_name AND tenants.role_name IS NULL;

-- name: tenant_source
SELECT source FROM cgk.tenants WHERE id = %(id)s;

-- name: lock_schema
-- Whoever changes a tenant's tables; tenants that share their tables share the lock. Ends with the transaction.
SELECT pg_advisory_xact_lock(hashtextextended('cgk_tasks set-up of schema ' || %(schema)s, 0));

-- name: lock_new_schema
-- Processes that add tenants with one schema wait for each other, and those of other schemas for nobody, however long
-- a set-up takes. Not an advisory lock, which a tenant's SQL could hold; nor one of the table, which whoever suspends a
-- tenant would wait for. The row is gone before the commit, so nobody ever sees it.
INSERT INTO cgk.leases (name, holder, expires_at)
VALUES ('tenants in schema ' || %(schema)s, gen_random_uuid(), now());

-- name: unlock_new_schema
DELETE FROM cgk.leases WHERE name = 'tenants in schema ' || %(schema)s;

-- name: add_tenant
-- A tenant that is there already stays as it is, but one that is added by hand stays out of the query's hands.
INSERT INTO cgk.tenants (id, isolation, schema_name, role_name, source)
VALUES (%(id)s, %(isolation)s, %(schema_name)s, %(role_name)s, %(source)s)
ON CONFLICT (id) DO UPDATE SET source = EXCLUDED.source WHERE EXCLUDED.source = 'hand' AND tenants.source <> 'hand';

-- name: set_tenant_status
UPDATE cgk.tenants
   SET status = %(status)s,
       suspended_at = CASE WHEN %(status)s = 'suspended' THEN now() END,
       suspended_by = CASE WHEN %(status)s = 'suspended' THEN %(by)s::text END
 WHERE id = %(id)s
RETURNING id, status, isolation, schema_name, role_name;

-- name: lock_tenant
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants WHERE id = %(id)s FOR UPDATE;

-- name: count_open_runs
SELECT count(*) AS count FROM cgk.runs WHERE tenant_id = %(id)s;

-- name: remove_tenant
DELETE FROM cgk.tenants WHERE id = %(id)s;

-- name: tables_of_tenants
-- Those that keep rows, so partitions and not what they are partitions of. The audit tells what people did, for ever.
SELECT c.relname AS name
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
 WHERE c.relnamespace = 'cgk'::regnamespace AND c.relkind = 'r' AND c.relname <> 'audit'
 ORDER BY EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.confrelid = c.oid), c.relname;

-- name: suspend_missing_tenants
-- The platform's query found them once and no longer lists them: suspended, never deleted.
UPDATE cgk.tenants SET status = 'suspended', suspended_at = now(), suspended_by = 'CGK_TENANTS_QUERY'
 WHERE status = 'active' AND source = 'query' AND NOT id = ANY(%(ids)b::text[]);

-- name: resume_listed_tenants
-- Only those that the query suspended; what a person suspended stays suspended.
UPDATE cgk.tenants SET status = 'active', suspended_at = NULL, suspended_by = NULL
 WHERE status = 'suspended' AND suspended_by = 'CGK_TENANTS_QUERY' AND id = ANY(%(ids)b::text[]);

-- name: enter_tenant
-- SET LOCAL by another name: ends with the transaction, so nothing leaks through a connection pool.
-- pg_temp last: a temporary table never hides a tenant's own. Tells whether the connection has had any.
-- application_name: PostgreSQL tells the client when it changes, so the client sees when this transaction has ended.
SELECT set_config('search_path', %(search_path)s, true),
       set_config('cgk.tenant_id', %(tenant_id)s, true),
       set_config('role', %(role)s, true),
       set_config('application_name', %(mark)s, true),
       pg_my_temp_schema() <> 0 AS has_temporary_tables;

-- name: begin
BEGIN;

-- name: commit
COMMIT;

-- name: begin_end
SAVEPOINT cgk_end;

-- name: check_constraints
-- Those that are deferred, while the transaction is still the tenant's.
SET CONSTRAINTS ALL IMMEDIATE;

-- name: leave_role
SET LOCAL ROLE NONE;

-- name: leave_path
-- Under another tenant's, PostgreSQL would plan the statements that follow anew.
SET LOCAL search_path TO DEFAULT;

-- name: leave_scans
-- As on connections of the record: the plan of the statement that follows is kept, and may be made while the table is small.
SET LOCAL enable_seqscan TO off;

-- name: step_outside
-- To the login's own role and path, and which path it was. With the tenant's, what follows would be planned anew for each.
SELECT current_setting('search_path') AS search_path, set_config('role', 'none', true), set_config('search_path', NULL, true);

-- name: step_inside
SELECT set_config('search_path', %(search_path)s, true), set_config('role', %(role)s, true);

-- name: forget_temporary_tables
-- Temporary tables outlive the transaction, and the connection's next user may be another tenant.
DISCARD TEMP;

-- name: schema_exists
SELECT 1 FROM pg_namespace WHERE nspname = %(name)s;

-- name: may_use_schema
SELECT has_schema_privilege(%(role)s, %(schema)s, 'USAGE') AS allowed;

-- name: find_role
SELECT rolcanlogin OR rolsuper OR rolbypassrls AS is_unfit FROM pg_roles WHERE rolname = %(name)s;

-- name: may_act_as
-- right: SET from PostgreSQL 16 on, MEMBER before.
SELECT pg_has_role(current_user, %(name)s, %(right)s) AS allowed;

-- name: find_table
-- Type and default are NULL where the table has no such column.
SELECT c.oid, n.nspname AS schema, c.relname AS name, c.relkind::text AS kind,
       CASE WHEN a.attnum IS NOT NULL THEN format_type(a.atttypid, NULL) END AS type, a.atthasdef AS has_default
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = %(column)s AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.oid = to_regclass(%(table)s);

-- name: sequences_of_table
-- Of serial columns; identity columns need no grant.
SELECT n.nspname AS schema, s.relname AS name
  FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace n ON n.oid = s.relnamespace
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = %(table)s::oid
   AND d.deptype = 'a';
