-- name: dispatch_due
-- scheduled, retrying → pending, the most urgent first. A run of a suspended tenant or in a paused queue is held instead.
WITH due AS (
    SELECT id FROM cgk.runs
     WHERE state IN ('scheduled', 'retrying') AND run_at <= now()
     ORDER BY run_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE cgk.runs r
   SET state = CASE WHEN t.status = 'suspended' OR q.queue IS NOT NULL THEN 'held' ELSE 'pending' END,
       handed_over_at = clock_timestamp(), hand_overs = 1
  FROM due JOIN cgk.runs d USING (id) LEFT JOIN cgk.tenants t ON t.id = d.tenant_id
       LEFT JOIN cgk.paused_queues q ON q.queue = d.queue
 WHERE r.id = due.id
RETURNING r.id::text, r.tenant_id, r.event, r.queue, r.priority, r.deaths, r.state;

-- name: dispatch_unpublished
-- Runs whose publish failed, that a worker gave back or whose tenant or queue was resumed.
WITH waiting AS (
    SELECT id FROM cgk.runs
     WHERE state = 'pending' AND handed_over_at IS NULL
     ORDER BY priority DESC, run_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE cgk.runs r SET handed_over_at = clock_timestamp(), hand_overs = least(r.hand_overs + 1, 1000)
  FROM waiting WHERE r.id = waiting.id
RETURNING r.id::text, r.tenant_id, r.event, r.queue, r.priority, r.deaths, r.state;

-- name: unclaimed_lists
-- The oldest dispatch of each queue and priority, if it is not claimed after some time. Jumps from list to list in the
-- index, so that it costs the same with a hundred runs waiting and with a million.
WITH RECURSIVE lists AS (
    (SELECT queue, priority, handed_over_at AS oldest FROM cgk.runs
      WHERE state = 'pending' AND handed_over_at IS NOT NULL
      ORDER BY queue, priority, handed_over_at LIMIT 1)
    UNION ALL
    SELECT following.* FROM lists, LATERAL (
        SELECT queue, priority, handed_over_at FROM cgk.runs
         WHERE state = 'pending' AND handed_over_at IS NOT NULL AND (queue, priority) > (lists.queue, lists.priority)
         ORDER BY queue, priority, handed_over_at LIMIT 1) AS following
)
SELECT queue, priority, oldest FROM lists WHERE oldest < now() - make_interval(secs => %(patience)s);

-- name: dispatch_lost
-- Dispatched before the oldest message that is still in their list, and not claimed: the broker lost them, or a
-- worker keeps them waiting. Dispatched again, less often each time; a needless message is harmless.
WITH lost AS (
    SELECT id FROM cgk.runs
     WHERE state = 'pending' AND queue = %(queue)s AND priority = %(priority)s
       AND handed_over_at < %(before)s
       AND handed_over_at < now() - make_interval(secs => %(patience)s * least(power(2, hand_overs - 1), 64))
     ORDER BY handed_over_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED
)
UPDATE cgk.runs r SET handed_over_at = clock_timestamp(), hand_overs = least(r.hand_overs + 1, 1000)
  FROM lost WHERE r.id = lost.id
RETURNING r.id::text, r.tenant_id, r.event, r.queue, r.priority, r.deaths, r.state;

-- name: release_held
-- held → pending or scheduled, where the tenant is not suspended and the queue not paused (any more). Jumps in the index from
-- queue to queue, and from tenant to tenant in those that are open: a look costs the same with a million runs held.
-- A tenant that is gone holds nothing: its run fails once it is claimed, and says so.
WITH RECURSIVE queues AS (
    (SELECT queue FROM cgk.runs WHERE state = 'held' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT following.queue FROM queues, LATERAL (
        SELECT queue FROM cgk.runs WHERE state = 'held' AND queue > queues.queue ORDER BY queue LIMIT 1) AS following
), parts AS (
    SELECT queue, first.tenant_id FROM queues, LATERAL (
        SELECT r.tenant_id FROM cgk.runs r
         WHERE r.state = 'held' AND r.queue = queues.queue ORDER BY r.tenant_id LIMIT 1) AS first
     WHERE NOT EXISTS (SELECT FROM cgk.paused_queues p WHERE p.queue = queues.queue)
    UNION ALL
    SELECT parts.queue, following.tenant_id FROM parts, LATERAL (
        SELECT r.tenant_id FROM cgk.runs r
         WHERE r.state = 'held' AND r.queue = parts.queue AND r.tenant_id > parts.tenant_id
         ORDER BY r.tenant_id LIMIT 1) AS following
), free AS (
    SELECT held.id FROM parts LEFT JOIN cgk.tenants t ON t.id = parts.tenant_id, LATERAL (
        SELECT r.id FROM cgk.runs r
         WHERE r.state = 'held' AND r.queue = parts.queue AND r.tenant_id = parts.tenant_id OFFSET 0) AS held
     WHERE t.status IS DISTINCT FROM 'suspended'
)
UPDATE cgk.runs r
   SET state = CASE WHEN r.run_at > now() THEN 'scheduled' ELSE 'pending' END, handed_over_at = NULL
  FROM free WHERE r.id = free.id AND r.state = 'held';

-- name: expire
-- Open runs whose time to live passed before they started.
WITH gone AS (
    DELETE FROM cgk.runs
     WHERE id IN (SELECT id FROM cgk.runs WHERE expires_at <= now() AND state <> 'running'
                   LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING *
)
INSERT INTO cgk.run_history
SELECT id, tenant_id, event, job, 'expired', queue, priority, payload, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id, worker_pid, parent_id,
       children_open, replay_of, idempotency_key, cancel_requested_at, canvas, cursor, errors,
       clock_timestamp(), NULL::json, 'EXPIRED', schedule, scheduled_for
  FROM gone
RETURNING id::text, parent_id::text, state, canvas::text AS canvas, tenant_id, event;

-- name: take_lease
INSERT INTO cgk.leases (name, holder, expires_at)
VALUES (%(name)s, %(holder)s::uuid, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
 WHERE leases.holder = EXCLUDED.holder OR leases.expires_at < now()
RETURNING name;

-- name: drop_lease
DELETE FROM cgk.leases WHERE name = %(name)s AND holder = %(holder)s::uuid;

-- name: beat
INSERT INTO cgk.workers (id, name, pid, queues) VALUES (%(id)s::uuid, %(name)s, %(pid)s, %(queues)s)
ON CONFLICT (id) DO UPDATE SET heartbeat_at = now(), queues = EXCLUDED.queues;

-- name: be_present
-- A row comes back at a worker's first beat, and at its first beat after a crash of PostgreSQL.
INSERT INTO cgk.presence (worker_id) VALUES (%(id)s::uuid) ON CONFLICT DO NOTHING RETURNING worker_id;

-- name: assert_claims
-- Claims that PostgreSQL forgot in a crash while their jobs run on: pending → running, as they were.
UPDATE cgk.runs r
   SET state = 'running', attempt = held.attempt, worker_id = %(worker_id)s::uuid, worker_pid = held.pid,
       started_at = clock_timestamp()
  FROM unnest(%(ids)s::uuid[], %(attempts)s::int[], %(pids)s::int[]) AS held (id, attempt, pid)
 WHERE r.id = held.id AND r.state = 'pending' AND r.attempt = held.attempt - 1
RETURNING r.id::text;

-- name: leave
WITH gone AS (DELETE FROM cgk.presence WHERE worker_id = %(id)s::uuid)
DELETE FROM cgk.workers WHERE id = %(id)s::uuid;

-- name: list_workers
SELECT id::text, name, pid, queues, started_at, heartbeat_at,
       extract(epoch FROM now() - heartbeat_at)::float8 AS silent_seconds
  FROM cgk.workers ORDER BY name;

-- name: held_by_worker
SELECT id::text, attempt, worker_pid, cancel_requested_at IS NOT NULL AS cancel_requested,
       extract(epoch FROM clock_timestamp() - started_at)::float8 AS seconds
  FROM cgk.runs WHERE worker_id = %(id)s::uuid AND state = 'running';

-- name: dead_workers
-- Workers that are silent, and owners of running runs that have no row (a worker that left in a hurry).
SELECT id::text FROM cgk.workers WHERE heartbeat_at < now() - make_interval(secs => %(timeout)s)
UNION
SELECT DISTINCT r.worker_id::text FROM cgk.runs r
 WHERE r.state = 'running' AND r.worker_id IS NOT NULL
   AND r.started_at < now() - make_interval(secs => %(timeout)s)
   AND NOT EXISTS (SELECT FROM cgk.workers w WHERE w.id = r.worker_id);

-- name: reclaim
-- Runs whose process died: pending again, or failed when cancelled meanwhile or after too many deaths.
-- ids: NULL for all runs of the worker. deaths: 0 where the worker stopped them itself.
UPDATE cgk.runs
   SET state = 'pending', deaths = deaths + %(deaths)s, worker_id = NULL, worker_pid = NULL,
       attempt = attempt - CASE WHEN %(deaths)s = 0 THEN 1 ELSE 0 END,
       handed_over_at = NULL, hand_overs = 0,
       errors = errors || jsonb_build_object('attempt', attempt, 'code', 'WORKER_DIED', 'kind', 'death',
                    'type', 'WorkerDied', 'message', %(reason)s::text, 'at', now())
 WHERE worker_id = %(worker_id)s::uuid AND state = 'running'
   AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[]))
RETURNING id::text, deaths, cancel_requested_at IS NOT NULL AS cancel_requested;

-- name: close_waiting
-- Closes pending runs for good: poison pills and cancelled ones.
WITH gone AS (
    DELETE FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[]) AND state = 'pending' RETURNING *
)
INSERT INTO cgk.run_history
SELECT id, tenant_id, event, job, %(state)s, queue, priority, payload, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id, worker_pid, parent_id,
       children_open, replay_of, idempotency_key, cancel_requested_at, canvas, cursor, errors,
       clock_timestamp(), NULL::json, %(error_code)s, schedule, scheduled_for
  FROM gone
RETURNING id::text, parent_id::text, state, canvas::text AS canvas, tenant_id, event;

-- name: forget_worker
WITH gone AS (
    DELETE FROM cgk.workers
     WHERE id = %(id)s::uuid AND heartbeat_at < now() - make_interval(secs => %(timeout)s) RETURNING id, name
), absent AS (
    DELETE FROM cgk.presence USING gone WHERE worker_id = gone.id
)
SELECT name FROM gone;

-- name: forget_keys
DELETE FROM cgk.idempotency_keys WHERE ctid IN
    (SELECT ctid FROM cgk.idempotency_keys WHERE expires_at <= now() LIMIT %(limit)s);

-- name: forget_groups
DELETE FROM cgk.groups WHERE created_at < now() - make_interval(days => %(days)s);

-- name: forget_discarded
DELETE FROM cgk.discarded_runs WHERE closed_at < now() - make_interval(days => %(days)s);

-- name: partitions
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = to_regclass(%(table)s) ORDER BY 1;

-- name: run_times
SELECT event, mean_seconds FROM cgk.run_times;

-- name: note_run_times
-- A moving mean: slow runs count at once, quick ones little by little, so that packets are rather too short.
INSERT INTO cgk.run_times AS known (event, mean_seconds)
SELECT event, mean_seconds FROM unnest(%(event)s::text[], %(mean_seconds)s::float8[]) AS new (event, mean_seconds)
ON CONFLICT (event) DO UPDATE
   SET mean_seconds = greatest(EXCLUDED.mean_seconds, known.mean_seconds * 0.5 + EXCLUDED.mean_seconds * 0.5),
       noted_at = now();
