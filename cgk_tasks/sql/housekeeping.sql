-- name: forget_closed_runs
-- Those that went well, so many days after they closed. Failed and unhandled ones stay for as long as the history does:
-- they can be replayed. tenant_id: NULL for all. Returns of each what is as long as a reference to a large payload.
DELETE FROM cgk.run_history WHERE (tableoid, ctid) IN (
    SELECT tableoid, ctid FROM cgk.run_history
     WHERE closed_at < now() - make_interval(days => %(days)s) AND state IN ('completed', 'cancelled', 'expired')
       AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
     LIMIT %(limit)s)
RETURNING CASE length(sealed_payload) WHEN 33 THEN sealed_payload END AS reference;

-- name: forget_run_logs
-- What attempts logged so many days ago, however their runs ended. tenant_id: NULL for all.
DELETE FROM cgk.run_logs WHERE (tableoid, ctid) IN (
    SELECT tableoid, ctid FROM cgk.run_logs
     WHERE logged_at < now() - make_interval(days => %(days)s)
       AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
     LIMIT %(limit)s);

-- name: forget_keys
-- Not those of which a send, perhaps in an application's open transaction, has just made new ones.
DELETE FROM cgk.idempotency_keys WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM cgk.idempotency_keys
     WHERE expires_at <= now() AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
     LIMIT %(limit)s FOR UPDATE SKIP LOCKED));

-- fragment: oldest(and_in_lanes)
SELECT queue, extract(epoch FROM now() - run_at)::float8 AS seconds
  FROM (SELECT queue, run_at FROM cgk.runs WHERE state = 'pending' {and_in_lanes}) AS r
 WHERE NOT EXISTS (SELECT FROM cgk.paused_queues q WHERE q.queue = r.queue)
 ORDER BY run_at LIMIT 1

-- name: oldest_waiting
-- The due run that has waited longest to begin, and may: not in a paused queue. Those of crowded queues wait in open lanes.
{{oldest(UNION ALL {{first_of_open_lanes}})}};

-- name: oldest_waiting_before_lanes
-- The same before cgk-tasks migrate --finish, while there are no lanes.
{{oldest()}};

-- name: workers_alive
SELECT count(*) AS alive FROM cgk.workers WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s);

-- name: runs_to_recover
-- A tenant's runs of an event that ended without success since then and were not repeated, the oldest first. Of an
-- event with several jobs, the children.
SELECT h.id::text FROM cgk.run_history h
 WHERE h.tenant_id = %(tenant_id)s AND h.event = %(event)s AND h.state IN ('failed', 'unhandled')
   AND h.closed_at >= %(since)s
   AND NOT (h.job IS NULL AND EXISTS (SELECT FROM cgk.run_history c WHERE c.parent_id = h.id))
   AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history r WHERE r.replay_of = h.id AND r.closed_at >= %(since)s)
 ORDER BY h.created_at, h.id LIMIT %(limit)s;
