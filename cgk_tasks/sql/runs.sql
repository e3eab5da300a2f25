-- fragment: columns
-- What is shown of a run, apart from the long ones.
id::text, tenant_id, event, job, state, queue, priority, max_attempts, attempt, deaths, run_at, expires_at, created_at,
started_at, worker_id::text, worker_pid, parent_id::text, replay_of::text, idempotency_key,
nullif(cancel_requested_at, 'infinity') AS cancel_requested_at, schedule, scheduled_for

-- fragment: long_columns
sealed_payload, sealed_canvas, sealed_cursor, sealed_errors, key_id, coalesce(errors_left_out, 0) AS errors_left_out

-- name: clock
SELECT clock_timestamp() AS now;

-- name: closed_ids
-- Which of these ids are history already: a message adopted from another producer may come twice.
SELECT id::text FROM cgk.run_history WHERE id = ANY(%(ids)s::uuid[]);

-- name: reserve_keys
-- Rows that come back are ours; the others belong to an earlier run. Waits for a concurrent sender of the same key.
INSERT INTO cgk.idempotency_keys (tenant_id, event, key, run_id, payload_hash, expires_at)
SELECT tenant_id, event, key, run_id, payload_hash, now() + make_interval(secs => %(seconds)s)
  FROM unnest(%(tenant_id)b::text[], %(event)b::text[], %(key)b::text[], %(run_id)s::uuid[], %(payload_hash)b::bytea[])
       AS new (tenant_id, event, key, run_id, payload_hash)
ON CONFLICT (tenant_id, event, key) DO UPDATE
   SET run_id = EXCLUDED.run_id, payload_hash = EXCLUDED.payload_hash, expires_at = EXCLUDED.expires_at
 WHERE idempotency_keys.expires_at <= now()
RETURNING run_id::text;

-- name: find_keys
SELECT k.tenant_id, k.event, k.key, k.run_id::text, k.payload_hash
  FROM cgk.idempotency_keys k
  JOIN unnest(%(tenant_id)b::text[], %(event)b::text[], %(key)b::text[]) AS wanted (tenant_id, event, key)
 USING (tenant_id, event, key);

-- fragment: in_closing_days
-- When it can have closed: PostgreSQL plans for the partitions of these days alone.
closed_at BETWEEN %(since)s::timestamptz AND %(until)s::timestamptz

-- fragment: one_run
-- The open run, else the one that closed last: a chain that is replayed runs its later links under their old ids.
SELECT {{columns}}, {{long_columns}}, NULL::timestamptz AS closed_at, NULL::bytea AS sealed_result,
       NULL::text AS error_code
  FROM cgk.runs WHERE id = %(id)s::uuid
UNION ALL
(SELECT {{columns}}, {{long_columns}}, closed_at, sealed_result, error_code
   FROM cgk.run_history WHERE id = %(id)s::uuid AND {{in_closing_days}} ORDER BY closed_at DESC LIMIT 1)
LIMIT 1

-- name: get_run
{{one_run}};

-- name: get_run_as_told
-- With what it tells of itself.
SELECT run.*, {{told_by_job}}
  FROM ({{one_run}}) AS run LEFT JOIN cgk.run_progress p ON p.run_id = %(id)s::uuid;

-- fragment: just_ended(which)
-- Little of it, for those who wait.
SELECT id::text, tenant_id, event, state, key_id, closed_at, error_code, sealed_result,
       sealed_errors[cardinality(sealed_errors)] AS sealed_error
  FROM cgk.run_history WHERE {which} AND {{in_closing_days}}

-- name: one_just_ended
{{just_ended(id = %(id)s::uuid)}};

-- name: just_ended
{{just_ended(id = ANY(%(ids)s::uuid[]))}};

-- name: list_runs
-- Without payloads, results and errors, however long those are; of an open run, the last error's code.
SELECT * FROM (
    SELECT {{columns}}, NULL::timestamptz AS closed_at, last_error_code AS error_code FROM cgk.runs
    UNION ALL
    SELECT {{columns}}, closed_at, error_code FROM cgk.run_history
) AS run
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
   AND (%(event)s::text IS NULL OR event = %(event)s)
   AND (%(job)s::text IS NULL OR job = %(job)s)
   AND (%(state)s::text IS NULL OR state = %(state)s)
   AND (%(parent_id)s::uuid IS NULL OR parent_id = (%(parent_id)s::uuid)::text)
   AND (%(queue)s::text IS NULL OR queue = %(queue)s)
   AND (%(event_prefix)s::text IS NULL OR starts_with(event, %(event_prefix)s))
 ORDER BY created_at DESC, id DESC
 LIMIT %(limit)s;

-- name: lock_replay
-- Whoever runs a closed run again holds this until the commit, so that an action on many runs sees it, or waits for no answer.
SELECT pg_advisory_xact_lock(hashtextextended('cgk.replay|' || %(id)s::text, 0));

-- name: try_lock_replays
-- Those of these runs that nobody is running again at this moment.
SELECT id FROM unnest(%(ids)s::text[]) AS given (id)
 WHERE pg_try_advisory_xact_lock(hashtextextended('cgk.replay|' || id, 0));

-- name: lock_at_once
-- Or not at all: whoever has locked the run may keep it for hours.
SELECT FROM cgk.runs WHERE id = %(id)s::uuid FOR UPDATE NOWAIT;

-- name: unlocked
-- Those of these open runs that nobody has locked.
SELECT id::text FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[]) FOR UPDATE SKIP LOCKED;

-- name: open_children
SELECT child.id::text
  FROM unnest(%(ids)s::uuid[]) AS given (id), LATERAL (SELECT id FROM cgk.runs WHERE parent_id = given.id OFFSET 0) AS child
 ORDER BY child.id;

-- name: count_runs
SELECT tenant_id, state, count(*) AS runs FROM (
    SELECT tenant_id, state, event FROM cgk.runs UNION ALL SELECT tenant_id, state, event FROM cgk.run_history
) AS run
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) AND (%(event)s::text IS NULL OR event = %(event)s)
 GROUP BY tenant_id, state ORDER BY tenant_id, state;

-- fragment: inspected
-- What Celery's `inspect` shows of an open run.
id::text, tenant_id, event, state, queue, priority, run_at, deaths, started_at, worker_id::text, worker_pid, key_id,
sealed_payload, sealed_canvas

-- name: inspected
SELECT {{inspected}} FROM cgk.runs
 WHERE id = ANY(%(ids)s::uuid[]) AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
 ORDER BY started_at, id;

-- name: inspected_later
-- Those whose time has not come.
SELECT {{inspected}} FROM cgk.runs
 WHERE state IN ('scheduled', 'retrying') AND queue = ANY(%(queues)s::text[])
   AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
 ORDER BY run_at LIMIT %(limit)s;

-- name: revoked_lately
-- Within three hours, as workers of Celery remember it; and open runs that are to be cancelled.
SELECT id::text, tenant_id, key_id, sealed_canvas FROM (
    (SELECT id, tenant_id, key_id, sealed_canvas, closed_at AS at FROM cgk.run_history
      WHERE state = 'cancelled' AND closed_at > now() - interval '3 hours'
        AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
      ORDER BY closed_at DESC LIMIT %(limit)s)
    UNION ALL
    SELECT id, tenant_id, key_id, sealed_canvas, now() FROM cgk.runs
     WHERE cancel_requested_at IS NOT NULL AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
) AS revoked
 ORDER BY at DESC LIMIT %(limit)s;
