-- name: set_size
-- How many members the group has, said by its sender; it may come before or after some of them have closed.
INSERT INTO cgk.groups (id, size) VALUES (%(group_id)s, %(size)s)
ON CONFLICT (id) DO UPDATE SET size = EXCLUDED.size;

-- name: add_member
-- A running member adds another one to its own group.
INSERT INTO cgk.groups (id, added) VALUES (%(group_id)s, 1)
ON CONFLICT (id) DO UPDATE SET added = groups.added + 1;

-- name: save_results
INSERT INTO cgk.groups (id, results) VALUES (%(group_id)s, %(results)s::json)
ON CONFLICT (id) DO UPDATE SET results = EXCLUDED.results;

-- name: get_results
SELECT results::text FROM cgk.groups WHERE id = %(group_id)s;

-- name: open_group
-- A member may close before the sender has said how many there are.
INSERT INTO cgk.groups (id) VALUES (%(group_id)s) ON CONFLICT (id) DO NOTHING;

-- name: close_member
-- Locks the group until the commit, so that of two last members the second one sees the first. Nothing comes back
-- if the member was counted before.
WITH member AS (
    INSERT INTO cgk.group_members (group_id, run_id, position, tenant_id, key_id, sealed_result, sealed_error)
    VALUES (%(group_id)s, %(run_id)s::uuid, %(position)s, %(tenant_id)s, %(key_id)s, %(sealed_result)s, %(sealed_error)s)
    ON CONFLICT DO NOTHING RETURNING group_id
)
UPDATE cgk.groups g SET closed = g.closed + 1 FROM member WHERE g.id = member.group_id
RETURNING g.closed = g.size + g.added AS complete, g.results::text AS results;

-- name: members
SELECT run_id::text, tenant_id, key_id, sealed_result, sealed_error FROM cgk.group_members
 WHERE group_id = %(group_id)s ORDER BY position NULLS LAST, run_id;

-- name: end_group
-- A saved group stays without its members, for GroupResult.restore(), until housekeeping forgets it.
WITH members AS (DELETE FROM cgk.group_members WHERE group_id = %(group_id)s)
DELETE FROM cgk.groups WHERE id = %(group_id)s AND results IS NULL;

-- name: drop_group
DELETE FROM cgk.groups WHERE id = %(group_id)s;

-- name: get_notes
-- What a task says of its run: what it sent, and a state of its own.
SELECT g.results::text AS children, m.position, m.tenant_id, m.key_id, m.sealed_result
  FROM cgk.groups g LEFT JOIN cgk.group_members m ON m.group_id = g.id
 WHERE g.id = %(group_id)s;

-- name: note_state
WITH notes AS (INSERT INTO cgk.groups (id) VALUES (%(group_id)s) ON CONFLICT (id) DO NOTHING)
INSERT INTO cgk.group_members (group_id, run_id, position, tenant_id, key_id, sealed_result)
VALUES (%(group_id)s, %(run_id)s::uuid, %(position)s, %(tenant_id)s, %(key_id)s, %(sealed_result)s)
ON CONFLICT (group_id, run_id) DO UPDATE
   SET position = EXCLUDED.position, tenant_id = EXCLUDED.tenant_id, key_id = EXCLUDED.key_id,
       sealed_result = EXCLUDED.sealed_result;

-- name: note_children
INSERT INTO cgk.groups (id, results) VALUES (%(group_id)s, %(results)s::json)
ON CONFLICT (id) DO UPDATE
   SET results = (coalesce(groups.results, '[]')::jsonb || EXCLUDED.results::jsonb)::json;

-- name: which_groups
SELECT id FROM cgk.groups WHERE id = ANY(%(ids)s::text[]);

-- name: groups_from
SELECT id FROM cgk.groups WHERE starts_with(id, %(prefix)s) ORDER BY created_at DESC LIMIT 10000;

-- name: open_with_canvas
-- Open runs that may have stamps, a thousand at a time.
SELECT id::text, tenant_id, key_id, sealed_canvas FROM cgk.runs
 WHERE sealed_canvas IS NOT NULL AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
   AND (%(after)s::uuid IS NULL OR id > %(after)s::uuid)
 ORDER BY id LIMIT 1000;
