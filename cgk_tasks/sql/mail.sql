-- What comes for runs: it is kept until their workflow takes it, so nothing is lost that comes early.

-- name: lock_run
-- An open run, locked: whoever brings mail and the run that begins to wait for it see each other. A parent is not: what
-- comes for it is its children's.
SELECT tenant_id, key_id FROM cgk.runs WHERE id = %(id)s::uuid AND children_open = 0 FOR UPDATE;

-- name: lock_run_if_free
-- The same where nobody has locked it.
SELECT tenant_id, key_id FROM cgk.runs WHERE id = %(id)s::uuid AND children_open = 0 FOR UPDATE SKIP LOCKED;

-- name: lock_children
-- Those of an event with several jobs.
SELECT child.id::text, child.tenant_id, child.key_id
  FROM (SELECT id FROM cgk.runs WHERE id = %(id)s::uuid AND children_open > 0 OFFSET 0) AS parent, LATERAL (
       SELECT id, tenant_id, key_id FROM cgk.runs WHERE parent_id = parent.id ORDER BY id FOR UPDATE) AS child;

-- name: hand_down_mail
-- In the transaction that makes the run a parent, whose row is locked, or that ends it: what came for it and is not taken.
INSERT INTO cgk.mail (run_id, id, name, key, tenant_id, key_id, sealed_payload, sent_at)
SELECT child.id, m.id, m.name, m.key, m.tenant_id, m.key_id, m.sealed_payload, m.sent_at
  FROM cgk.mail m CROSS JOIN unnest(%(children)s::uuid[]) AS child (id)
 WHERE m.run_id = %(id)s::uuid AND m.taken_at IS NULL;

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

-- name: ends_for_parents
-- How runs ended that workflows have invoked, of those in `ids` that this transaction has closed. The parents are locked.
SELECT h.id::text, h.tenant_id, h.key_id, h.state, h.error_code, h.sealed_result,
       h.sealed_errors[cardinality(h.sealed_errors)] AS sealed_error, p.id::text AS parent_id,
       p.key_id AS parent_key_id
  FROM (SELECT ended.* FROM unnest(%(ids)s::uuid[]) AS given (id), LATERAL (
               SELECT id, tenant_id, key_id, state, error_code, sealed_result, sealed_errors, parent_id FROM cgk.run_history
                WHERE id = given.id AND closed_at > now() - interval '1 hour' OFFSET 0) AS ended
         ORDER BY parent_id OFFSET 0) AS h, LATERAL (
       SELECT id, key_id FROM cgk.runs WHERE id = h.parent_id AND children_open = 0 FOR UPDATE) AS p;

-- name: insert_ends
INSERT INTO cgk.mail (run_id, id, name, key, tenant_id, key_id, sealed_payload)
SELECT run_id, id, name, key, tenant_id, key_id, sealed_payload
  FROM unnest(%(run_id)s::uuid[], %(id)s::uuid[], %(name)b::text[], %(key)b::text[], %(tenant_id)b::text[],
              %(key_id)b::text[], %(sealed_payload)b::bytea[])
       AS m (run_id, id, name, key, tenant_id, key_id, sealed_payload)
ON CONFLICT DO NOTHING;

-- name: ends_for
-- The mail of these names that is not taken: the ends of child runs.
SELECT id::text, name, key_id, sealed_payload FROM cgk.mail
 WHERE run_id = %(id)s::uuid AND name = ANY(%(names)s::text[]) AND taken_at IS NULL;

-- name: take_ends
UPDATE cgk.mail SET taken_at = clock_timestamp(), sealed_payload = NULL
 WHERE run_id = %(id)s::uuid AND id = ANY(%(ids)s::uuid[]);

-- name: awaited
SELECT event, fields FROM cgk.awaited;

-- name: note_awaited
-- What workflows of this worker wait for, beside what others have said. Written anew every ten minutes at most.
INSERT INTO cgk.awaited AS known (event, fields)
SELECT event, string_to_array(fields, E'\n') FROM unnest(%(events)b::text[], %(fields)b::text[]) AS w (event, fields)
 ORDER BY event
ON CONFLICT (event) DO UPDATE
   SET fields = ARRAY(SELECT DISTINCT f FROM unnest(known.fields || EXCLUDED.fields) AS f ORDER BY f), seen_at = now()
 WHERE NOT known.fields @> EXCLUDED.fields OR known.seen_at < now() - interval '10 minutes';

-- name: keep_event_mail
-- In the transaction that makes the runs of these events.
INSERT INTO cgk.event_mail (tenant_id, event, field, value, id, key_id, sealed_payload)
SELECT tenant_id, event, field, value, id, key_id, sealed_payload
  FROM unnest(%(tenant_id)b::text[], %(event)b::text[], %(field)b::text[], %(value)b::text[], %(id)s::uuid[],
              %(key_id)b::text[], %(sealed_payload)b::bytea[])
       AS m (tenant_id, event, field, value, id, key_id, sealed_payload);

-- name: insert_event_waits
-- In the transaction that suspends the run.
INSERT INTO cgk.event_waits (tenant_id, event, field, value, run_id, name)
SELECT %(tenant_id)s, event, field, value, %(id)s::uuid, name
  FROM unnest(%(event)b::text[], %(field)b::text[], %(value)b::text[], %(name)b::text[]) AS w (event, field, value, name)
ON CONFLICT DO NOTHING;

-- name: waits_for_event
SELECT run_id::text, name FROM cgk.event_waits
 WHERE tenant_id = %(tenant_id)s AND event = %(event)s AND field = %(field)s AND value = %(value)s
 ORDER BY run_id;

-- fragment: made_at
coalesce((SELECT p.created_at FROM cgk.runs p WHERE p.id = r.parent_id AND p.children_open > 0), r.created_at)

-- fragment: not_its_own
-- The event that the run itself is of, or its parent where the event has several jobs, is none that it waits for.
m.id <> r.id AND m.id IS DISTINCT FROM r.parent_id

-- name: event_mail_for
-- What was sent of an event since the run was made, and was not brought to it yet. A child run of an event with several
-- jobs is as old as its parent.
SELECT m.id::text, m.key_id, m.sealed_payload FROM cgk.event_mail m
 WHERE m.tenant_id = %(tenant_id)s AND m.event = %(event)s AND m.field = %(field)s AND m.value = %(value)s
   AND EXISTS (SELECT FROM cgk.runs r WHERE r.id = %(run_id)s::uuid AND m.sent_at >= {{made_at}} AND {{not_its_own}})
   AND NOT EXISTS (SELECT FROM cgk.mail x WHERE x.run_id = %(run_id)s::uuid AND x.name = %(name)s AND x.key = m.id::text)
 ORDER BY m.sent_at, m.id;

-- fragment: not_brought(recent)
SELECT m.id::text, m.tenant_id, m.key_id, m.sealed_payload, w.run_id::text, w.name
  FROM cgk.event_waits w JOIN cgk.event_mail m USING (tenant_id, event, field, value)
 WHERE {recent} > now() - make_interval(mins => %(minutes)s) AND {recent} < now() - interval '5 seconds'
   AND EXISTS (SELECT FROM cgk.runs r WHERE r.id = w.run_id AND m.sent_at >= {{made_at}} AND {{not_its_own}})
   AND NOT EXISTS (SELECT FROM cgk.mail x WHERE x.run_id = w.run_id AND x.name = w.name AND x.key = m.id::text)

-- name: missed_event_mail
-- What a run waits for and has not got, because the event's sender, or the run's process, has ended before it looked.
{{not_brought(m.sent_at)}}
UNION
{{not_brought(w.since)}}
LIMIT %(limit)s;

-- name: forget_awaited
-- What no worker has said for so long, and no run waits for: its workflow is gone.
DELETE FROM cgk.awaited a
 WHERE a.seen_at < now() - make_interval(days => %(days)s)
   AND NOT EXISTS (SELECT FROM cgk.event_waits w WHERE w.event = a.event);

-- name: forget_event_waits
DELETE FROM cgk.event_waits w WHERE NOT EXISTS (SELECT FROM cgk.runs r WHERE r.id = w.run_id);
