-- name: get_settings
SELECT name, value FROM cgk.tenant_settings WHERE tenant_id = %(tenant_id)s AND name = ANY(%(names)b::text[]);

-- name: set_setting
INSERT INTO cgk.tenant_settings (tenant_id, name, value) VALUES (%(tenant_id)s, %(name)s, %(value)s)
ON CONFLICT (tenant_id, name) DO UPDATE SET value = EXCLUDED.value, changed_at = now();

-- name: remove_setting
DELETE FROM cgk.tenant_settings WHERE tenant_id = %(tenant_id)s AND name = %(name)s;

-- name: list_settings
-- Without the values.
SELECT name, changed_at FROM cgk.tenant_settings WHERE tenant_id = %(tenant_id)s ORDER BY name;
