-- name: get_tenant
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants WHERE id = %(id)s;

-- name: list_tenants
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants ORDER BY id;

-- name: active_tenants
SELECT id, status, isolation, schema_name, role_name FROM cgk.tenants WHERE status = 'active' ORDER BY id;

-- name: add_tenant
-- Idempotent: a tenant that is there already stays as it is.
INSERT INTO cgk.tenants (id, isolation, schema_name, role_name)
VALUES (%(id)s, %(isolation)s, %(schema_name)s, %(role_name)s)
ON CONFLICT (id) DO NOTHING;

-- name: set_tenant_status
UPDATE cgk.tenants
   SET status = %(status)s,
       suspended_at = CASE WHEN %(status)s = 'suspended' THEN now() END,
       suspended_by = CASE WHEN %(status)s = 'suspended' THEN %(by)s::text END
 WHERE id = %(id)s
RETURNING id, status, isolation, schema_name, role_name;

-- name: suspend_missing_tenants
-- The platform's own query no longer lists them: suspended, never deleted.
UPDATE cgk.tenants SET status = 'suspended', suspended_at = now(), suspended_by = 'CGK_TENANTS_QUERY'
 WHERE status = 'active' AND NOT id = ANY(%(ids)s::text[]);

-- name: resume_listed_tenants
UPDATE cgk.tenants SET status = 'active', suspended_at = NULL, suspended_by = NULL
 WHERE status = 'suspended' AND suspended_by = 'CGK_TENANTS_QUERY' AND id = ANY(%(ids)s::text[])
RETURNING id;

-- name: enter_tenant
-- SET LOCAL by another name: ends with the transaction, so nothing leaks through a connection pool.
SELECT set_config('search_path', %(search_path)s, true),
       set_config('cgk.tenant_id', %(tenant_id)s, true),
       set_config('role', %(role)s, true);
