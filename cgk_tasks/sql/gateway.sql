-- The keys of the HTTP API, and its requests with an Idempotency-Key.

-- fragment: key
id::text, tenant_id, name, prefix, scopes, created_at, created_by, expires_at, revoked_at, last_used_at

-- name: insert_key
INSERT INTO cgk.api_keys (id, tenant_id, name, prefix, secret_hash, scopes, created_by, expires_at)
VALUES (%(id)s::uuid, %(tenant_id)s, %(name)s, %(prefix)s, %(secret_hash)s, %(scopes)b::text[], %(by)s, %(expires_at)s)
RETURNING {{key}};

-- name: find_key
-- is_over: expired or revoked. was_seen: its use was noted within the last minute.
SELECT {{key}}, secret_hash, revoked_at IS NOT NULL OR coalesce(expires_at <= now(), false) AS is_over,
       coalesce(last_used_at > now() - interval '1 minute', false) AS was_seen
  FROM cgk.api_keys WHERE prefix = %(prefix)s;

-- name: note_use
-- Once a minute, also if several processes see the key at the same time.
UPDATE cgk.api_keys SET last_used_at = now()
 WHERE id = %(id)s::uuid AND (last_used_at IS NULL OR last_used_at <= now() - interval '1 minute');

-- name: list_keys
SELECT {{key}} FROM cgk.api_keys
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
 ORDER BY tenant_id, created_at, id;

-- name: lock_key
SELECT {{key}} FROM cgk.api_keys WHERE id = %(id)s::uuid FOR UPDATE;

-- name: end_key
-- No later than it would end anyway.
UPDATE cgk.api_keys SET expires_at = least(expires_at, now() + make_interval(secs => %(seconds)s))
 WHERE id = %(id)s::uuid;

-- name: revoke_key
UPDATE cgk.api_keys SET revoked_at = now() WHERE id = %(id)s::uuid AND revoked_at IS NULL RETURNING {{key}};

-- name: begin_request
-- A row comes back if the request is the caller's to execute: the key is new, or its time is over, or the process that had
-- the same request has not answered in time.
INSERT INTO cgk.api_requests AS known (tenant_id, key, fingerprint, holder, locked_until, expires_at)
VALUES (%(tenant_id)s, %(key)s, %(fingerprint)s, %(holder)s::uuid, now() + make_interval(secs => %(lock_seconds)s),
        now() + make_interval(secs => %(keep_seconds)s))
ON CONFLICT (tenant_id, key) DO UPDATE
   SET fingerprint = EXCLUDED.fingerprint, holder = EXCLUDED.holder, locked_until = EXCLUDED.locked_until,
       expires_at = EXCLUDED.expires_at, status = NULL, answer = NULL
 WHERE known.expires_at <= now()
    OR (known.status IS NULL AND known.locked_until <= now() AND known.fingerprint = EXCLUDED.fingerprint)
RETURNING key;

-- name: find_request
SELECT fingerprint, status, answer FROM cgk.api_requests WHERE tenant_id = %(tenant_id)s AND key = %(key)s;

-- name: end_request
UPDATE cgk.api_requests SET status = %(status)s, answer = %(answer)s
 WHERE tenant_id = %(tenant_id)s AND key = %(key)s AND holder = %(holder)s::uuid;

-- name: drop_request
-- What failed may be tried again.
DELETE FROM cgk.api_requests
 WHERE tenant_id = %(tenant_id)s AND key = %(key)s AND holder = %(holder)s::uuid AND status IS NULL;

-- name: forget_requests
DELETE FROM cgk.api_requests WHERE ctid IN
    (SELECT ctid FROM cgk.api_requests WHERE expires_at <= now() LIMIT %(limit)s);

-- name: state_of_signal
-- Of the run of a signal's URL: whether it is open, and whether the URL was used.
SELECT EXISTS (SELECT FROM cgk.runs WHERE id = %(id)s::uuid AND tenant_id = %(tenant_id)s) AS is_open,
       EXISTS (SELECT FROM cgk.mail WHERE run_id = %(id)s::uuid AND name = %(name)s AND key = %(key)s) AS is_used;

-- name: is_ready
-- The tables of this release are there, and the connection works.
SELECT EXISTS (SELECT FROM cgk.api_keys) AS has_keys;
