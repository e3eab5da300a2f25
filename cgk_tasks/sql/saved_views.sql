-- name: saved_views
-- Those of a user, and those of all.
SELECT id, owner = '' AS is_shared, name, search, created_by FROM cgk.saved_views
 WHERE owner = '' OR lower(owner) = lower(%(user)s) ORDER BY owner <> '', lower(name), id;

-- name: save_view
-- The search takes the place of an earlier one of the same name, unless there are so many of others already.
INSERT INTO cgk.saved_views AS known (owner, name, search, created_by)
SELECT %(owner)s, %(name)s, %(search)s, %(user)s
 WHERE (SELECT count(*) FROM cgk.saved_views v
         WHERE lower(v.owner) = lower(%(owner)s) AND lower(v.name) <> lower(%(name)s)) < %(most)s
ON CONFLICT (lower(owner), lower(name)) DO UPDATE
   SET name = EXCLUDED.name, search = EXCLUDED.search, created_at = now(), created_by = EXCLUDED.created_by
RETURNING known.id;

-- name: delete_view
-- Not another user's own.
DELETE FROM cgk.saved_views WHERE id = %(id)s AND (owner = '' OR lower(owner) = lower(%(user)s)) RETURNING name, owner = '' AS is_shared;
