-- name: keep_logs
-- Lines of some attempts. One that goes on for more than a second has several rows. Not flushed to disk on its own.
INSERT INTO cgk.run_logs (run_id, tenant_id, attempt, size, left_out, line_count, sealed_lines, key_id)
SELECT n.run_id, n.tenant_id, n.attempt, n.size, n.left_out, n.line_count, n.sealed_lines, n.key_id
  FROM (SELECT set_config('synchronous_commit', 'off', true)) AS flush,
       unnest(%(run_id)s::uuid[], %(tenant_id)b::text[], %(attempt)b::int[], %(size)b::int[], %(left_out)b::int[],
              %(line_count)b::int[], %(sealed_lines)b::bytea[], %(key_id)b::text[])
           AS n (run_id, tenant_id, attempt, size, left_out, line_count, sealed_lines, key_id);

-- name: make_room
-- Where the attempts of a run have logged more than its room, the older ones lose their lines; the number stays.
UPDATE cgk.run_logs l SET size = 0, left_out = l.left_out + l.line_count, line_count = 0, sealed_lines = NULL
  FROM (SELECT run_id, logged_at, attempt, sum(size) OVER (PARTITION BY run_id ORDER BY logged_at DESC) AS used
          FROM cgk.run_logs WHERE run_id = ANY(%(ids)s::uuid[])) AS newer
 WHERE l.run_id = newer.run_id AND l.logged_at = newer.logged_at AND l.attempt = newer.attempt
   AND newer.used > %(room)s AND l.size > 0;

-- name: lines
SELECT tenant_id, attempt, logged_at, left_out, sealed_lines, key_id FROM cgk.run_logs
 WHERE run_id = %(run_id)s::uuid ORDER BY logged_at, attempt;
