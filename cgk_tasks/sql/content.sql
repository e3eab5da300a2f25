-- name: convert_runs
-- The next ones, in the order of their ids, that have no bytes yet, or nothing that can be searched though their event says
-- what can be. Changing them has the triggers of migration 0013 convert them.
UPDATE cgk.runs r SET key_id = r.key_id
  FROM (SELECT id FROM cgk.runs
         WHERE id > %(after)s::uuid
           AND (sealed_payload IS NULL OR (search_fields IS NULL AND event = ANY(%(events)b::text[])))
         ORDER BY id LIMIT %(limit)s FOR UPDATE) AS batch
 WHERE r.id = batch.id
RETURNING r.id::text, r.tenant_id, r.event, r.key_id, CASE WHEN r.event = ANY(%(events)b::text[]) THEN r.sealed_payload END
          AS sealed_payload;

-- name: convert_run_history
UPDATE cgk.run_history r SET key_id = r.key_id
  FROM (SELECT tableoid AS part, ctid AS place FROM cgk.run_history
         WHERE id > %(after)s::uuid
           AND (sealed_payload IS NULL OR (search_fields IS NULL AND event = ANY(%(events)b::text[])))
         ORDER BY id LIMIT %(limit)s FOR UPDATE) AS batch
 WHERE r.tableoid = batch.part AND r.ctid = batch.place
RETURNING r.id::text, r.tenant_id, r.event, r.key_id, CASE WHEN r.event = ANY(%(events)b::text[]) THEN r.sealed_payload END
          AS sealed_payload;

-- name: convert_run_logs
UPDATE cgk.run_logs r SET key_id = r.key_id
  FROM (SELECT tableoid AS part, ctid AS place FROM cgk.run_logs
         WHERE run_id > %(after)s::uuid AND line_count IS NULL
         ORDER BY run_id LIMIT %(limit)s FOR UPDATE) AS batch
 WHERE r.tableoid = batch.part AND r.ctid = batch.place
RETURNING r.run_id::text AS id;

-- name: convert_group_members
UPDATE cgk.group_members r SET key_id = r.key_id
  FROM (SELECT group_id, run_id FROM cgk.group_members
         WHERE run_id > %(after)s::uuid AND sealed_result IS NULL AND sealed_error IS NULL
         ORDER BY run_id LIMIT %(limit)s FOR UPDATE) AS batch
 WHERE r.group_id = batch.group_id AND r.run_id = batch.run_id
RETURNING r.run_id::text AS id;

-- name: convert_tenant_schedules
UPDATE cgk.tenant_schedules r SET key_id = r.key_id
  FROM (SELECT id FROM cgk.tenant_schedules
         WHERE id > %(after)s::uuid AND sealed_payload IS NULL
         ORDER BY id LIMIT %(limit)s FOR UPDATE) AS batch
 WHERE r.id = batch.id
RETURNING r.id::text;

-- name: set_search_fields_of_runs
UPDATE cgk.runs r SET search_fields = f.search_fields
  FROM unnest(%(ids)s::uuid[], %(search_fields)b::text[]) AS f (id, search_fields) WHERE r.id = f.id;

-- name: set_search_fields_of_run_history
UPDATE cgk.run_history r SET search_fields = f.search_fields
  FROM unnest(%(ids)s::uuid[], %(search_fields)b::text[]) AS f (id, search_fields)
 WHERE r.id = f.id AND r.search_fields IS NULL;

-- name: partitions_without_index
-- Of the history, those that lack the index of the errors.
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'cgk.run_history'::regclass
   AND NOT EXISTS (SELECT FROM pg_inherits x JOIN pg_index p ON p.indexrelid = x.inhrelid
                    WHERE x.inhparent = 'cgk.run_history_errors'::regclass AND p.indrelid = c.oid)
 ORDER BY 1;

-- name: is_converted
-- The index is valid once every partition has it, which is the last step of the conversion.
SELECT indisvalid AS yes FROM pg_index WHERE indexrelid = to_regclass('cgk.run_history_errors');

-- name: older_workers
-- Workers that live and do not know the sealed columns.
SELECT name FROM cgk.workers
 WHERE revision IS NULL AND heartbeat_at > now() - make_interval(secs => %(timeout)s) ORDER BY name;

-- name: seconds_since_old_form
-- Since something of an older release last wrote content; NULL: nothing has.
SELECT CASE WHEN is_called THEN extract(epoch FROM clock_timestamp())::float8 - last_value END AS seconds
  FROM cgk.written_in_old_form;

-- name: is_in_use
-- Whether anything has ever been sent through this database, or a worker is there.
SELECT EXISTS (SELECT FROM cgk.runs) OR EXISTS (SELECT FROM cgk.run_history) OR EXISTS (SELECT FROM cgk.workers)
       OR EXISTS (SELECT FROM cgk.idempotency_keys) OR EXISTS (SELECT FROM cgk.tenant_schedules) AS yes;
