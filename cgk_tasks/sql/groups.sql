-- name: add_group
INSERT INTO cgk.groups (id, size, body) VALUES (%(id)s, %(size)s, %(body)s::json) ON CONFLICT (id) DO NOTHING;

-- name: close_member
-- Locks the group first, so that the two last members cannot both think that the other one is missing.
-- Nothing comes back if the member was counted before.
WITH locked AS (SELECT id FROM cgk.groups WHERE id = %(group_id)s FOR UPDATE),
member AS (
    INSERT INTO cgk.group_members (group_id, run_id, position, result)
    SELECT id, %(run_id)s::uuid, %(position)s, %(result)s::json FROM locked
    ON CONFLICT DO NOTHING RETURNING group_id
)
UPDATE cgk.groups g SET closed = closed + 1, failed = g.failed OR %(failed)s
  FROM member WHERE g.id = member.group_id
RETURNING g.closed, g.size, g.failed, g.body::text AS body;

-- name: group_results
SELECT result::text FROM cgk.group_members WHERE group_id = %(group_id)s ORDER BY position, run_id;

-- name: drop_group
DELETE FROM cgk.groups WHERE id = %(group_id)s;
