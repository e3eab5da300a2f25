-- name: outdated
-- Secrets that are not encrypted with the newest key, in the order of their places, a batch at a time.
SELECT place, tenant_id, id, value FROM cgk.stored_secrets
 WHERE NOT starts_with(value, %(newest)s) AND (place, tenant_id, id) > (%(place)s, %(tenant_id)s, %(id)s)
 ORDER BY place, tenant_id, id LIMIT %(limit)s;

-- name: count_secrets
-- By the key that they are encrypted with; NULL: plain.
SELECT CASE WHEN starts_with(value, 'sealed:1:') THEN split_part(value, ':', 3) END AS key_id,
       count(*) AS secrets, count(DISTINCT tenant_id) AS tenants
  FROM cgk.stored_secrets GROUP BY key_id ORDER BY key_id;

-- name: replace_tenant_setting
-- Only what nobody has changed meanwhile. When it was changed stays.
UPDATE cgk.tenant_settings t SET value = n.after
  FROM unnest(%(tenant_id)b::text[], %(id)b::text[], %(before)b::text[], %(after)b::text[]) AS n (tenant_id, id, before, after)
 WHERE t.tenant_id = n.tenant_id AND t.name = n.id AND t.value = n.before;

-- name: replace_webhook_secret
UPDATE cgk.webhook_endpoints e SET secret = n.after
  FROM unnest(%(tenant_id)b::text[], %(id)s::uuid[], %(before)b::text[], %(after)b::text[]) AS n (tenant_id, id, before, after)
 WHERE e.tenant_id = n.tenant_id AND e.id = n.id AND e.secret = n.before;

-- name: replace_old_webhook_secret
UPDATE cgk.webhook_endpoints e SET old_secret = n.after
  FROM unnest(%(tenant_id)b::text[], %(id)s::uuid[], %(before)b::text[], %(after)b::text[]) AS n (tenant_id, id, before, after)
 WHERE e.tenant_id = n.tenant_id AND e.id = n.id AND e.old_secret = n.before;
