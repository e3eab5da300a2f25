-- What comes for runs: it is kept until their workflow takes it, so nothing is lost that comes early.

-- name: lock_run
-- An open run, locked: whoever brings mail and the run that begins to wait for it see each other.
SELECT tenant_id, key_id FROM cgk.runs WHERE id = %(id)s::uuid FOR UPDATE;

-- name: insert_mail
-- Nothing comes back for a key that was used before, also where its mail is taken already.
INSERT INTO cgk.mail (run_id, id, name, key, tenant_id, key_id, sealed_payload)
VALUES (%(id)s::uuid, %(mail_id)s::uuid, %(name)s, %(key)s, %(tenant_id)s, %(key_id)s, %(sealed_payload)s)
ON CONFLICT (run_id, name, key) DO NOTHING
RETURNING id;

-- name: oldest_mail
SELECT id::text, key_id, sealed_payload FROM cgk.mail
 WHERE run_id = %(id)s::uuid AND name = %(name)s AND taken_at IS NULL
 ORDER BY sent_at, id LIMIT 1 FOR UPDATE SKIP LOCKED;

-- name: take_mail
-- Its content is the step's from now on. The row stays, for its key.
UPDATE cgk.mail SET taken_at = clock_timestamp(), sealed_payload = NULL
 WHERE run_id = %(id)s::uuid AND id = %(mail_id)s::uuid;
