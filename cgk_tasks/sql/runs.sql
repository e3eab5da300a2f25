-- name: insert_run
-- The same as insert_runs for a single run: arrays of one would cost twice as much.
-- durability: `off` when the caller waits for the disk itself.
INSERT INTO cgk.runs (id, tenant_id, event, job, state, queue, priority, payload, max_attempts,
                      run_at, expires_at, handed_over_at, hand_overs, parent_id, replay_of, idempotency_key, canvas,
                      scheduled_for, trace)
SELECT %(id)s::uuid, %(tenant_id)s, %(event)s, %(job)s, %(state)s::text, %(queue)s, %(priority)s, %(payload)s::json,
       %(max_attempts)s::int, coalesce(%(run_at)s::timestamptz, now()), %(expires_at)s::timestamptz,
       CASE WHEN %(state)s::text = 'pending' THEN clock_timestamp() END, (%(state)s::text = 'pending')::int,
       %(parent_id)s::uuid, %(replay_of)s::uuid, %(idempotency_key)s, %(canvas)s::json, %(scheduled_for)s::timestamptz,
       %(trace)s::text
  FROM (SELECT set_config('synchronous_commit', %(durability)s, true)) AS flush
ON CONFLICT (id) DO NOTHING;

-- name: insert_runs
-- One statement for thousands. A run that is due is inserted as dispatched: the sender
-- publishes it right after the commit, and if that fails the dispatcher notices.
INSERT INTO cgk.runs (id, tenant_id, event, job, state, queue, priority, payload, max_attempts,
                      run_at, expires_at, handed_over_at, hand_overs, parent_id, replay_of, idempotency_key, canvas,
                      scheduled_for, trace)
SELECT id, tenant_id, event, job, state, queue, priority, payload::json, max_attempts,
       coalesce(run_at, now()), expires_at,
       CASE WHEN state = 'pending' THEN clock_timestamp() END, (state = 'pending')::int,
       parent_id, replay_of, idempotency_key, canvas::json, scheduled_for, trace
  FROM unnest(%(id)s::uuid[], %(tenant_id)s::text[], %(event)s::text[], %(job)s::text[], %(state)s::text[],
              %(queue)s::text[], %(priority)s::smallint[], %(payload)s::text[], %(max_attempts)s::int[],
              %(run_at)s::timestamptz[], %(expires_at)s::timestamptz[], %(parent_id)s::uuid[],
              %(replay_of)s::uuid[], %(idempotency_key)s::text[], %(canvas)s::text[], %(scheduled_for)s::timestamptz[],
              %(trace)s::text[])
       AS new (id, tenant_id, event, job, state, queue, priority, payload, max_attempts,
               run_at, expires_at, parent_id, replay_of, idempotency_key, canvas, scheduled_for, trace)
ON CONFLICT (id) DO NOTHING;

-- name: clock
SELECT clock_timestamp() AS now;

-- name: copy_runs
COPY cgk.runs (id, tenant_id, event, job, state, queue, priority, payload, max_attempts, run_at, expires_at,
               handed_over_at, hand_overs, parent_id, replay_of, idempotency_key, canvas, scheduled_for,
               trace) FROM STDIN;

-- name: closed_ids
-- Which of these ids are history already: a message adopted from another producer may come twice.
SELECT id::text FROM cgk.run_history WHERE id = ANY(%(ids)s::uuid[]);

-- name: reserve_keys
-- Rows that come back are ours; the others belong to an earlier run. Waits for a concurrent sender of the same key.
INSERT INTO cgk.idempotency_keys (tenant_id, event, key, run_id, payload_hash, expires_at)
SELECT tenant_id, event, key, run_id, payload_hash, now() + make_interval(secs => %(seconds)s)
  FROM unnest(%(tenant_id)s::text[], %(event)s::text[], %(key)s::text[], %(run_id)s::uuid[], %(payload_hash)s::bytea[])
       AS new (tenant_id, event, key, run_id, payload_hash)
ON CONFLICT (tenant_id, event, key) DO UPDATE
   SET run_id = EXCLUDED.run_id, payload_hash = EXCLUDED.payload_hash, expires_at = EXCLUDED.expires_at
 WHERE idempotency_keys.expires_at <= now()
RETURNING run_id::text;

-- name: find_keys
SELECT k.tenant_id, k.event, k.key, k.run_id::text, k.payload_hash
  FROM cgk.idempotency_keys k
  JOIN unnest(%(tenant_id)s::text[], %(event)s::text[], %(key)s::text[]) AS wanted (tenant_id, event, key)
 USING (tenant_id, event, key);

-- name: forget_dispatch
-- The publish failed: the dispatcher dispatches these as soon as the broker is back.
UPDATE cgk.runs SET handed_over_at = NULL WHERE id = ANY(%(ids)s::uuid[]) AND state = 'pending';

-- name: claim_one
-- The same as claim for a single run, by the primary key under any plan.
UPDATE cgk.runs r
   SET state = CASE WHEN t.status = 'suspended' OR waiting.queue = ANY(paused.queues) THEN 'held' ELSE 'running' END,
       attempt = CASE WHEN t.status = 'suspended' OR waiting.queue = ANY(paused.queues) THEN r.attempt ELSE r.attempt + 1 END,
       worker_id = CASE WHEN t.status = 'suspended' OR waiting.queue = ANY(paused.queues) THEN NULL ELSE %(worker_id)s::uuid END,
       worker_pid = %(pid)s,
       started_at = clock_timestamp()
  FROM (SELECT ARRAY(SELECT queue FROM cgk.paused_queues) AS queues, set_config('synchronous_commit', 'off', true)) AS paused,
       cgk.runs waiting LEFT JOIN cgk.tenants t ON t.id = waiting.tenant_id
 WHERE waiting.id = %(id)s::uuid AND r.id = waiting.id
   AND r.state = 'pending' AND (r.expires_at IS NULL OR r.expires_at > now())
   AND NOT EXISTS (SELECT FROM cgk.workers w LEFT JOIN cgk.presence p ON p.worker_id = w.id WHERE p.worker_id IS NULL)
RETURNING r.state, r.id::text, r.tenant_id, r.event, r.job, r.queue, r.priority, r.payload::text AS payload,
          r.max_attempts, r.attempt, r.deaths, r.run_at, r.created_at, r.started_at, r.parent_id::text,
          r.canvas::text AS canvas, r.cursor::text AS cursor, (r.errors -> 0 ->> 'at')::timestamptz AS first_failed_at,
          r.scheduled_for, r.trace, r.expires_at, t.id AS tenant, t.status, t.isolation, t.schema_name, t.role_name;

-- name: claim
-- pending → running for a packet of ids. What does not come back is a duplicate, cancelled, expired or not due.
-- A run of a suspended tenant, or in a paused queue, is held instead; the pauses are read once, which costs less than a
-- join. Locks the rows of the packet, in id order by the primary key.
-- Not flushed to disk: what a crash of PostgreSQL makes it forget, the workers assert again (assert_claims) before
-- anybody claims, which the last condition sees to.
UPDATE cgk.runs r
   SET state = CASE WHEN t.status = 'suspended' OR waiting.queue = ANY(paused.queues) THEN 'held' ELSE 'running' END,
       attempt = CASE WHEN t.status = 'suspended' OR waiting.queue = ANY(paused.queues) THEN r.attempt ELSE r.attempt + 1 END,
       worker_id = CASE WHEN t.status = 'suspended' OR waiting.queue = ANY(paused.queues) THEN NULL ELSE %(worker_id)s::uuid END,
       worker_pid = %(pid)s,
       started_at = clock_timestamp()
  FROM (SELECT ARRAY(SELECT queue FROM cgk.paused_queues) AS queues, set_config('synchronous_commit', 'off', true)) AS paused,
       cgk.runs waiting LEFT JOIN cgk.tenants t ON t.id = waiting.tenant_id
 WHERE waiting.id = ANY(%(ids)s::uuid[]) AND r.id = waiting.id
   AND r.state = 'pending' AND (r.expires_at IS NULL OR r.expires_at > now())
   AND NOT EXISTS (SELECT FROM cgk.workers w LEFT JOIN cgk.presence p ON p.worker_id = w.id WHERE p.worker_id IS NULL)
RETURNING r.state, r.id::text, r.tenant_id, r.event, r.job, r.queue, r.priority, r.payload::text AS payload,
          r.max_attempts, r.attempt, r.deaths, r.run_at, r.created_at, r.started_at, r.parent_id::text,
          r.canvas::text AS canvas, r.cursor::text AS cursor, (r.errors -> 0 ->> 'at')::timestamptz AS first_failed_at,
          r.scheduled_for, r.trace, r.expires_at, t.id AS tenant, t.status, t.isolation, t.schema_name, t.role_name;

-- name: claims_barred
SELECT EXISTS (SELECT FROM cgk.workers w LEFT JOIN cgk.presence p ON p.worker_id = w.id WHERE p.worker_id IS NULL)
    AS barred;

-- name: finish_one
-- The same as finish for a single run: arrays of one would cost twice as much.
WITH gone AS (
    DELETE FROM cgk.runs
     WHERE id = %(id)s::uuid AND state = 'running' AND attempt = %(attempt)s AND NOT worker_id IS DISTINCT FROM %(worker_id)s::uuid
    RETURNING *
)
INSERT INTO cgk.run_history
SELECT id, tenant_id, event, coalesce(%(job)s::text, job), %(state)s::text, queue, priority, payload, max_attempts,
       attempt, deaths, run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id, worker_pid,
       parent_id, children_open, replay_of, idempotency_key, cancel_requested_at, canvas, cursor,
       CASE WHEN %(error)s::text IS NULL THEN errors ELSE errors || %(error)s::jsonb END,
       clock_timestamp(), %(result)s::json, %(error_code)s::text, schedule, scheduled_for
  FROM gone, (SELECT set_config('synchronous_commit', %(durability)s, true)) AS flush
RETURNING id::text, parent_id::text, state;

-- name: finish
-- running → closed, only where the attempt still owns the run. Not flushed to disk on its own: a finish that
-- PostgreSQL forgets in a crash means running again, and the worker notices that it runs nothing of the kind.
WITH outcome AS (
    SELECT o.* FROM (SELECT set_config('synchronous_commit', %(durability)s, true)) AS flush,
    unnest(%(id)s::uuid[], %(attempt)s::int[], %(job)s::text[], %(state)s::text[], %(result)s::text[],
           %(error)s::text[], %(error_code)s::text[])
        AS o (id, attempt, job, state, result, error, error_code)
), gone AS (
    DELETE FROM cgk.runs r USING outcome o
     WHERE r.id = ANY(%(id)s::uuid[]) AND r.id = o.id AND r.state = 'running' AND r.attempt = o.attempt
       AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid
    RETURNING r.*, o.state AS new_state, o.job AS new_job, o.result::json AS result, o.error::jsonb AS error,
              o.error_code
)
INSERT INTO cgk.run_history
SELECT id, tenant_id, event, coalesce(new_job, job), new_state, queue, priority, payload, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id, worker_pid, parent_id,
       children_open, replay_of, idempotency_key, cancel_requested_at, canvas, cursor,
       CASE WHEN error IS NULL THEN errors ELSE errors || error END,
       clock_timestamp(), result, error_code, schedule, scheduled_for
  FROM gone
RETURNING id::text, parent_id::text, state;

-- name: put_back
-- running → retrying (after a failure or a snooze) or pending (a packet gives back what it has not begun).
-- refund: 1 if the attempt is not used. put_off: why, where no error tells it. A cancelled run is not put back.
UPDATE cgk.runs r
   SET state = o.state, attempt = r.attempt - o.refund,
       run_at = CASE WHEN o.state = 'retrying' THEN now() + make_interval(secs => o.delay_seconds) ELSE r.run_at END,
       payload = coalesce(o.payload::json, r.payload),
       job = coalesce(o.job, r.job),
       errors = CASE WHEN o.error IS NULL THEN r.errors ELSE r.errors || o.error::jsonb END,
       put_off = o.put_off::json,
       worker_id = NULL, worker_pid = NULL, handed_over_at = NULL, hand_overs = 0
  FROM unnest(%(id)s::uuid[], %(attempt)s::int[], %(state)s::text[], %(refund)s::int[], %(delay_seconds)s::float8[],
              %(error)s::text[], %(payload)s::text[], %(job)s::text[], %(put_off)s::text[])
       AS o (id, attempt, state, refund, delay_seconds, error, payload, job, put_off)
 WHERE r.id = o.id AND r.state = 'running' AND r.attempt = o.attempt AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid
   AND r.cancel_requested_at IS NULL
RETURNING r.id::text;

-- name: cancel_requested
-- Whether a run that the attempt still owns is to be cancelled.
SELECT 1 FROM cgk.runs
 WHERE id = %(id)s::uuid AND state = 'running' AND attempt = %(attempt)s
   AND NOT worker_id IS DISTINCT FROM %(worker_id)s::uuid AND cancel_requested_at IS NOT NULL;

-- name: fan_out
-- A run whose event has several jobs becomes the parent of one child each. It stays running, owned by no worker.
UPDATE cgk.runs SET worker_id = NULL, worker_pid = NULL, children_open = %(children)s
 WHERE id = %(id)s::uuid AND state = 'running' AND attempt = %(attempt)s AND NOT worker_id IS DISTINCT FROM %(worker_id)s::uuid
RETURNING id;

-- name: child_closed
-- Counts a parent's children down; returns the parent when the last one has closed.
UPDATE cgk.runs r SET children_open = r.children_open - done.children
  FROM (SELECT id, count(*)::int AS children FROM unnest(%(parents)s::uuid[]) AS p (id) GROUP BY id) AS done
 WHERE r.id = done.id AND r.state = 'running'
RETURNING r.id::text, r.children_open;

-- name: close_parent
WITH children AS (
    SELECT bool_and(state = 'completed') AS good, bool_or(state = 'failed') AS bad,
           json_object_agg(coalesce(job, ''), result) AS results, max(error_code) AS error_code
      FROM cgk.run_history WHERE parent_id = %(id)s::uuid
), gone AS (
    DELETE FROM cgk.runs WHERE id = %(id)s::uuid AND state = 'running' AND children_open <= 0 RETURNING *
)
INSERT INTO cgk.run_history
SELECT gone.id, tenant_id, event, job,
       CASE WHEN good THEN 'completed' WHEN bad THEN 'failed' ELSE 'cancelled' END,
       queue, priority, payload, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id, worker_pid, parent_id,
       children_open, replay_of, idempotency_key, cancel_requested_at, canvas, cursor, errors,
       clock_timestamp(), results, CASE WHEN NOT good THEN coalesce(children.error_code, 'CHILD_NOT_COMPLETED') END,
       schedule, scheduled_for
  FROM gone, children
RETURNING id::text, parent_id::text, state, canvas::text AS canvas;

-- name: get_run
-- The open run, else the one that closed last: a chain that is replayed runs its later links under their old ids.
SELECT id::text, tenant_id, event, job, state, queue, priority, payload::text AS payload, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, started_at, worker_id::text, worker_pid, parent_id::text, replay_of::text,
       idempotency_key, cancel_requested_at, canvas::text AS canvas, errors,
       NULL::timestamptz AS closed_at, NULL::text AS result, NULL::text AS error_code, schedule, scheduled_for
  FROM cgk.runs WHERE id = %(id)s::uuid
UNION ALL
(SELECT id::text, tenant_id, event, job, state, queue, priority, payload::text, max_attempts, attempt, deaths,
        run_at, expires_at, created_at, started_at, worker_id::text, worker_pid, parent_id::text, replay_of::text,
        idempotency_key, cancel_requested_at, canvas::text, errors, closed_at, result::text, error_code,
        schedule, scheduled_for
   FROM cgk.run_history WHERE id = %(id)s::uuid ORDER BY closed_at DESC LIMIT 1)
LIMIT 1;

-- name: list_runs
SELECT * FROM (
    SELECT id::text, tenant_id, event, job, state, queue, priority, NULL::text AS payload, max_attempts, attempt, deaths,
           run_at, expires_at, created_at, started_at, worker_id::text, worker_pid, parent_id::text, replay_of::text,
           idempotency_key, cancel_requested_at, NULL::text AS canvas, errors,
           NULL::timestamptz AS closed_at, NULL::text AS result, NULL::text AS error_code
      FROM cgk.runs
    UNION ALL
    SELECT id::text, tenant_id, event, job, state, queue, priority, NULL, max_attempts, attempt, deaths,
           run_at, expires_at, created_at, started_at, worker_id::text, worker_pid, parent_id::text, replay_of::text,
           idempotency_key, cancel_requested_at, NULL, errors, closed_at, NULL, error_code
      FROM cgk.run_history
) AS run
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
   AND (%(event)s::text IS NULL OR event = %(event)s)
   AND (%(job)s::text IS NULL OR job = %(job)s)
   AND (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(parent_id)s::uuid IS NULL OR parent_id = (%(parent_id)s::uuid)::text)
 ORDER BY created_at DESC, id DESC
 LIMIT %(limit)s;

-- name: count_runs
SELECT tenant_id, state, count(*) AS runs FROM (
    SELECT tenant_id, state, event FROM cgk.runs UNION ALL SELECT tenant_id, state, event FROM cgk.run_history
) AS run
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) AND (%(event)s::text IS NULL OR event = %(event)s)
 GROUP BY tenant_id, state ORDER BY tenant_id, state;

-- name: cancel_waiting
-- Closes a run that no worker holds, at once. A parent of child runs counts as waiting: its children are cancelled too.
WITH gone AS (
    DELETE FROM cgk.runs
     WHERE (id = %(id)s::uuid OR parent_id = %(id)s::uuid) AND (state <> 'running' OR worker_id IS NULL)
    RETURNING *
)
INSERT INTO cgk.run_history
SELECT id, tenant_id, event, job, 'cancelled', queue, priority, payload, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id, worker_pid, parent_id,
       children_open, replay_of, idempotency_key, clock_timestamp(), canvas, cursor, errors,
       clock_timestamp(), NULL::json, NULL, schedule, scheduled_for
  FROM gone
RETURNING id::text, parent_id::text, state, canvas::text AS canvas;

-- name: request_cancel
-- A run that a worker holds: the worker sees this within a second and interrupts the job.
UPDATE cgk.runs SET cancel_requested_at = coalesce(cancel_requested_at, now())
 WHERE (id = %(id)s::uuid OR parent_id = %(id)s::uuid) AND state = 'running' AND worker_id IS NOT NULL
RETURNING id::text;

-- name: running
-- The runs among these that a worker holds, as `claim` returned them.
SELECT r.state, r.id::text, r.tenant_id, r.event, r.job, r.queue, r.priority, r.payload::text AS payload,
       r.max_attempts, r.attempt, r.deaths, r.run_at, r.created_at, r.started_at, r.parent_id::text,
       r.canvas::text AS canvas, r.cursor::text AS cursor,
          (r.errors -> 0 ->> 'at')::timestamptz AS first_failed_at,
          r.scheduled_for, r.trace, r.expires_at, t.id AS tenant, t.status, t.isolation, t.schema_name, t.role_name
  FROM cgk.runs r LEFT JOIN cgk.tenants t ON t.id = r.tenant_id
 WHERE r.id = ANY(%(ids)s::uuid[]) AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid AND r.state = 'running';

-- name: save_cursor
-- Only the attempt that owns the run may move its cursor.
UPDATE cgk.runs SET cursor = %(cursor)s::json
 WHERE id = %(id)s::uuid AND state = 'running' AND attempt = %(attempt)s AND NOT worker_id IS DISTINCT FROM %(worker_id)s::uuid
RETURNING id;
