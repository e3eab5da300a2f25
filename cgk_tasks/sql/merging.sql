-- What senders merge or do not accept, as rules of jobs say. What makes the runs is in transitions.sql.

-- name: take_from_bucket
-- So many sends at once, of which it returns how many are granted; by GCRA, as cgk_tasks/admission/buckets.py has it.
-- The row stays locked until the sender commits: what is rolled back was not granted. looked_at: when this send came.
INSERT INTO cgk.buckets AS b (rule, key, looked_at, tat, granted, skipped)
SELECT %(rule)s::text, %(key)s::text, at, at + make_interval(secs => %(step)s * least(%(sends)s, %(burst)s)),
       least(%(sends)s, %(burst)s)::int, greatest(%(sends)s - %(burst)s, 0)::bigint
  FROM (SELECT clock_timestamp() AS at) AS now
ON CONFLICT (rule, key) DO UPDATE
   SET looked_at = EXCLUDED.looked_at, granted = {{granted}},
       tat = greatest(b.tat, EXCLUDED.looked_at) + make_interval(secs => %(step)s * {{granted}}),
       skipped = b.skipped + %(sends)s - {{granted}}
RETURNING granted;

-- fragment: granted
greatest(0, least(%(sends)s, floor((%(step)s * %(burst)s
    - extract(epoch FROM greatest(b.tat, EXCLUDED.looked_at) - EXCLUDED.looked_at)::float8) / %(step)s + 1e-6)))::int

-- name: give_back
-- Of sends that were granted here, those that another rule does not accept.
UPDATE cgk.buckets SET tat = tat - make_interval(secs => %(step)s * %(sends)s), granted = granted - %(sends)s
 WHERE rule = %(rule)s AND key = %(key)s;

-- name: forget_buckets
-- Full ones, which are as new. What they did not accept is added to their rule's own row, which has the key ''.
WITH gone AS (
    DELETE FROM cgk.buckets WHERE (rule, key) IN (
        SELECT rule, key FROM cgk.buckets
         WHERE key <> '' AND tat < now() - interval '1 hour' LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING rule, skipped
)
INSERT INTO cgk.buckets AS b (rule, key, skipped)
SELECT rule, '', sum(skipped) FROM gone GROUP BY rule
ON CONFLICT (rule, key) DO UPDATE SET skipped = b.skipped + EXCLUDED.skipped;

-- name: skipped_sends
-- How many sends each rule has not accepted.
SELECT rule, sum(skipped)::bigint AS skipped FROM cgk.buckets GROUP BY rule;

-- name: no_skipped_sends
-- The same before cgk-tasks migrate --finish.
SELECT NULL::text AS rule, NULL::bigint AS skipped WHERE false;

-- name: add_events
-- Further events of a run that waits for them; in the order in which its senders had the row of the run.
INSERT INTO cgk.mail (run_id, id, name, tenant_id, key_id, sealed_payload)
SELECT %(run_id)s::uuid, given.id, '$batch', %(tenant_id)s, given.key_id, given.sealed_payload
  FROM unnest(%(ids)s::uuid[], %(key_id)b::text[], %(sealed_payload)b::bytea[])
       WITH ORDINALITY AS given (id, key_id, sealed_payload, nth)
 ORDER BY given.nth;

-- name: events
-- What has been added to a run, in order.
SELECT id::text, key_id, sealed_payload FROM cgk.mail
 WHERE run_id = %(id)s::uuid AND name = '$batch' AND taken_at IS NULL ORDER BY sent_at, id;

-- name: take_events
DELETE FROM cgk.mail WHERE run_id = %(id)s::uuid AND name = '$batch';

-- name: copy_events
-- For a replay of a run that ended before it began.
INSERT INTO cgk.mail (run_id, id, name, tenant_id, key_id, sealed_payload, sent_at)
SELECT %(again)s::uuid, gen_random_uuid(), name, tenant_id, key_id, sealed_payload, sent_at
  FROM cgk.mail WHERE run_id = %(id)s::uuid AND name = '$batch';

-- name: move_keys
-- Idempotency keys of sends that became part of another run.
UPDATE cgk.idempotency_keys k SET run_id = moved.to_run
  FROM unnest(%(tenant_id)b::text[], %(event)b::text[], %(key)b::text[], %(to_run)s::uuid[])
       AS moved (tenant_id, event, key, to_run)
 WHERE k.tenant_id = moved.tenant_id AND k.event = moved.event AND k.key = moved.key;

-- name: free_keys
-- Idempotency keys of sends that were not accepted: the next one with such a key is looked at anew.
DELETE FROM cgk.idempotency_keys k
 USING unnest(%(tenant_id)b::text[], %(event)b::text[], %(key)b::text[]) AS freed (tenant_id, event, key)
 WHERE k.tenant_id = freed.tenant_id AND k.event = freed.event AND k.key = freed.key;
