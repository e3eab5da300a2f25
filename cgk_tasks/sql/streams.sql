-- What those are told who watch runs. The gateway looks, some times a second, while somebody watches; nothing else knows
-- of them.

-- fragment: seen(closed_at)
-- told_at: when the run last told something of itself.
r.id::text, r.tenant_id, r.event, r.queue, r.state, r.attempt - r.deaths AS attempt,
(SELECT p.changed_at FROM cgk.run_progress p WHERE p.run_id = r.id) AS told_at, {closed_at} AS closed_at

-- name: runs_by_id
-- The open run, else the one that closed last. Only ids that are not open are looked for in the history's partitions.
WITH open AS MATERIALIZED (
    SELECT r.id, r.tenant_id, r.event, r.queue, r.state, r.attempt, r.deaths FROM cgk.runs r
     WHERE r.id = ANY(%(ids)s::uuid[])
), closed AS MATERIALIZED (
    SELECT DISTINCT ON (h.id) h.id, h.tenant_id, h.event, h.queue, h.state, h.attempt, h.deaths, h.closed_at
      FROM cgk.run_history h
     WHERE h.id = ANY(ARRAY(SELECT unnest(%(ids)s::uuid[]) EXCEPT SELECT id FROM open))
     ORDER BY h.id, h.closed_at DESC
)
SELECT {{seen(NULL::timestamptz)}} FROM open r
UNION ALL
SELECT {{seen(r.closed_at)}} FROM closed r;

-- name: runs_of_tenants
-- What is on; what was sent since a time and has not begun, the newest of it; what has ended since then, the last of each
-- tenant. Ids of other producers tell no time.
SELECT {{seen(NULL::timestamptz)}} FROM cgk.runs r WHERE r.state = 'running' AND r.tenant_id = ANY(%(tenants)s::text[])
UNION ALL
(SELECT {{seen(NULL::timestamptz)}} FROM cgk.runs r
  WHERE r.id >= %(first_id)s::uuid AND r.id < %(last_id)s::uuid
    AND r.state <> 'running' AND r.tenant_id = ANY(%(tenants)s::text[])
  ORDER BY r.id DESC LIMIT %(most_new)s)
UNION ALL
(SELECT {{seen(NULL::timestamptz)}} FROM cgk.runs r
  WHERE (get_byte(uuid_send(r.id), 6) & 240) <> 112 AND r.created_at >= %(since)s
    AND r.state <> 'running' AND r.tenant_id = ANY(%(tenants)s::text[])
  ORDER BY r.created_at DESC LIMIT %(most_new)s)
UNION ALL
SELECT ended.* FROM unnest(%(tenants)s::text[]) AS watched (tenant_id), LATERAL (
    SELECT {{seen(r.closed_at)}} FROM cgk.run_history r
     WHERE r.tenant_id = watched.tenant_id AND r.closed_at > %(since)s
     ORDER BY r.closed_at DESC LIMIT %(most_ended)s) AS ended;

-- name: told_by_runs
SELECT p.run_id::text AS id, p.tenant_id, {{told_by_job}} FROM cgk.run_progress p WHERE p.run_id = ANY(%(ids)s::uuid[]);

-- name: payloads
-- Of runs that tell something, for the personal data that is to be left out of it.
SELECT id::text, tenant_id, sealed_payload, key_id FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[])
UNION ALL
SELECT id::text, tenant_id, sealed_payload, key_id FROM cgk.run_history WHERE id = ANY(%(ids)s::uuid[]);
