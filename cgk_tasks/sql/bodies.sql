-- Large payloads, in a table of their own: cgk_tasks/runs/bodies.py calls these.

-- name: are_known
-- Whether the table is there, and every living worker knows it. timeout: seconds of silence after which one counts as dead.
SELECT to_regclass('cgk.run_bodies') IS NOT NULL
       AND NOT EXISTS (SELECT FROM cgk.workers WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s)
                          AND coalesce(revision, '') < '0033') AS yes;

-- name: keep
-- durability: as in transitions.sql; NULL: as the transaction has it.
INSERT INTO cgk.run_bodies (run_id, id, tenant_id, sealed_payload)
SELECT run_id, id, tenant_id, sealed_payload
  FROM unnest(%(run_id)s::uuid[], %(id)s::uuid[], %(tenant_id)b::text[], %(sealed_payload)b::bytea[])
       AS new (run_id, id, tenant_id, sealed_payload)
 WHERE (SELECT set_config('synchronous_commit', coalesce(%(durability)s, current_setting('synchronous_commit')), true))
       IS NOT NULL;

-- name: find
SELECT id, tenant_id, sealed_payload FROM cgk.run_bodies
 WHERE run_id = ANY(%(run_ids)s::uuid[]) AND id = ANY(%(ids)s::uuid[]);

-- name: forget
DELETE FROM cgk.run_bodies WHERE run_id = ANY(%(run_ids)s::uuid[]) AND id = ANY(%(ids)s::uuid[]);
