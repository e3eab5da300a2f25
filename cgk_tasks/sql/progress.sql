-- What runs tell of themselves while they run.

-- name: keep_progress
-- Of some attempts. What a later attempt of the run has told stays. Not flushed to disk on its own.
INSERT INTO cgk.run_progress AS known (run_id, tenant_id, attempt, done, total, told_at, sealed_message, sealed_metadata, key_id)
SELECT n.run_id, n.tenant_id, n.attempt, n.done, n.total, n.told_at, n.sealed_message, n.sealed_metadata, n.key_id
  FROM (SELECT set_config('synchronous_commit', 'off', true)) AS flush,
       unnest(%(run_id)s::uuid[], %(tenant_id)b::text[], %(attempt)b::int[], %(done)b::float8[], %(total)b::float8[],
              %(told_at)b::timestamptz[], %(sealed_message)b::bytea[], %(sealed_metadata)b::bytea[], %(key_id)b::text[])
           AS n (run_id, tenant_id, attempt, done, total, told_at, sealed_message, sealed_metadata, key_id)
 ORDER BY n.run_id
ON CONFLICT (run_id) DO UPDATE
   SET attempt = EXCLUDED.attempt, done = EXCLUDED.done, total = EXCLUDED.total, told_at = EXCLUDED.told_at,
       sealed_message = EXCLUDED.sealed_message, sealed_metadata = EXCLUDED.sealed_metadata, key_id = EXCLUDED.key_id,
       changed_at = now()
 WHERE known.attempt <= EXCLUDED.attempt;

-- name: progress
SELECT p.tenant_id, {{told_by_job}} FROM cgk.run_progress p WHERE p.run_id = %(run_id)s::uuid;
