-- name: begin_tick
-- Whoever gets the row back makes the tick's runs; anybody else waits for that transaction, and gets nothing.
INSERT INTO cgk.schedule_ticks (schedule, scheduled_for, by_hand, given_up)
VALUES (%(schedule)s, %(scheduled_for)s, %(by_hand)s, %(given_up)s)
ON CONFLICT (schedule, scheduled_for) DO NOTHING
RETURNING schedule;

-- name: make_runs
-- One run for each tenant, with its idempotency key, in one statement. Those that are due are handed over after the
-- commit, those with an offset wait in the record. starts_at: when the first of them starts.
WITH candidates AS MATERIALIZED (
    SELECT t.id AS tenant_id, cgk.tick_run_id(%(schedule)s, t.id, %(scheduled_for)s) AS run_id,
           '{"tenantId":"' || t.id || %(payload)s AS payload,
           greatest(%(scheduled_for)s::timestamptz + make_interval(secs => coalesce(o.shift_seconds, 0)), %(starts_at)s)
               + cgk.spread_offset(%(schedule)s, t.id, %(spread)s) AS run_at,
           CASE WHEN t.status <> 'active' THEN 'suspended'
                WHEN o.is_off THEN 'switched_off'
                WHEN %(overlap)s = 'skip' AND EXISTS (
                    SELECT FROM cgk.runs r WHERE r.schedule = %(schedule)s AND r.tenant_id = t.id) THEN 'overlapping'
           END AS reason
      FROM cgk.tenants t
      LEFT JOIN cgk.schedule_overrides o ON o.schedule = %(schedule)s AND o.tenant_id = t.id
     WHERE (t.source = 'platform') = %(for_platform)s
       AND (%(tenant_id)s::text IS NULL OR t.id = %(tenant_id)s)
), keys AS (
    INSERT INTO cgk.idempotency_keys (tenant_id, event, key, run_id, payload_hash, expires_at)
    SELECT tenant_id, %(event)s, %(key)s, run_id, sha256(convert_to(payload, 'UTF8')),
           now() + make_interval(secs => %(key_seconds)s)
      FROM candidates WHERE reason IS NULL
    ON CONFLICT (tenant_id, event, key) DO NOTHING
    RETURNING run_id
), made AS (
    INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, payload, run_at, handed_over_at, hand_overs,
                          idempotency_key, schedule, scheduled_for)
    SELECT run_id, tenant_id, %(event)s, CASE WHEN run_at <= %(now)s THEN 'pending' ELSE 'scheduled' END, %(queue)s,
           %(priority)s, payload::json, run_at, CASE WHEN run_at <= %(now)s THEN clock_timestamp() END,
           (run_at <= %(now)s)::int, %(key)s, %(schedule)s, %(scheduled_for)s
      FROM candidates JOIN keys USING (run_id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id, tenant_id, state
), noted AS (
    SELECT (SELECT count(*) FROM made) AS runs,
           count(*) FILTER (WHERE reason = 'suspended') AS suspended,
           count(*) FILTER (WHERE reason = 'switched_off') AS switched_off,
           count(*) FILTER (WHERE reason = 'overlapping') AS overlapping,
           coalesce(jsonb_agg(tenant_id) FILTER (WHERE reason = 'overlapping'), '[]') AS overlapped
      FROM candidates
)
SELECT noted.*, coalesce(array_agg(made.id::text) FILTER (WHERE made.state = 'pending'), '{}') AS due_ids,
       coalesce(array_agg(made.tenant_id) FILTER (WHERE made.state = 'pending'), '{}') AS due_tenants
  FROM noted LEFT JOIN made ON true
 GROUP BY noted.runs, noted.suspended, noted.switched_off, noted.overlapping, noted.overlapped;

-- name: end_tick
UPDATE cgk.schedule_ticks
   SET runs = %(runs)s, suspended = %(suspended)s, switched_off = %(switched_off)s, overlapping = %(overlapping)s,
       skipped = jsonb_build_object('overlapping', %(overlapped)s::jsonb)
 WHERE schedule = %(schedule)s AND scheduled_for = %(scheduled_for)s;

-- name: done_until
UPDATE cgk.schedules SET done_until = %(until)s WHERE name = %(schedule)s AND done_until < %(until)s;

-- name: cancel_old_waiting
-- Closes the earlier runs of a schedule that no worker holds, with their children.
WITH old AS (
    SELECT r.id FROM cgk.runs r JOIN cgk.tenants t ON t.id = r.tenant_id
     WHERE r.schedule = %(schedule)s AND t.status = 'active'
       AND (%(tenant_id)s::text IS NULL OR r.tenant_id = %(tenant_id)s)
), gone AS (
    DELETE FROM cgk.runs r USING old
     WHERE (r.id = old.id OR r.parent_id = old.id) AND (r.state <> 'running' OR r.worker_id IS NULL)
    RETURNING r.*
)
INSERT INTO cgk.run_history
SELECT id, tenant_id, event, job, 'cancelled', queue, priority, payload, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id, worker_pid, parent_id,
       children_open, replay_of, idempotency_key, clock_timestamp(), canvas, cursor, errors,
       clock_timestamp(), NULL::json, 'OVERLAP', schedule, scheduled_for
  FROM gone
RETURNING id::text;

-- name: cancel_old_running
-- The worker sees this within a second and interrupts the job.
WITH old AS (
    SELECT r.id FROM cgk.runs r JOIN cgk.tenants t ON t.id = r.tenant_id
     WHERE r.schedule = %(schedule)s AND t.status = 'active'
       AND (%(tenant_id)s::text IS NULL OR r.tenant_id = %(tenant_id)s)
)
UPDATE cgk.runs r SET cancel_requested_at = coalesce(r.cancel_requested_at, now())
  FROM old WHERE (r.id = old.id OR r.parent_id = old.id) AND r.state = 'running'
RETURNING r.id::text;

-- name: list_schedules
SELECT s.*, t.scheduled_for AS last_tick, t.fired_at AS last_fired_at, t.runs AS last_runs,
       t.suspended + t.switched_off + t.overlapping AS last_skipped
  FROM cgk.schedules s
  LEFT JOIN LATERAL (SELECT * FROM cgk.schedule_ticks t WHERE t.schedule = s.name
                      ORDER BY t.scheduled_for DESC LIMIT 1) t ON true
 ORDER BY s.name;

-- name: save_schedule
INSERT INTO cgk.schedules AS known (name, event, cron, timezone, is_enabled, is_listed, seeded_cron, seeded_timezone,
                                    seeded_enabled, done_until)
VALUES (%(name)s, %(event)s, %(cron)s, %(timezone)s, %(is_enabled)s, %(is_listed)s, %(seeded_cron)s,
        %(seeded_timezone)s, %(seeded_enabled)s, %(done_until)s)
ON CONFLICT (name) DO UPDATE
   SET event = EXCLUDED.event, cron = EXCLUDED.cron, timezone = EXCLUDED.timezone, is_enabled = EXCLUDED.is_enabled,
       is_listed = EXCLUDED.is_listed, seeded_cron = EXCLUDED.seeded_cron, seeded_timezone = EXCLUDED.seeded_timezone,
       seeded_enabled = EXCLUDED.seeded_enabled, done_until = greatest(known.done_until, EXCLUDED.done_until);

-- name: ticks
SELECT * FROM cgk.schedule_ticks WHERE schedule = %(schedule)s ORDER BY scheduled_for DESC LIMIT %(limit)s;

-- name: forget_ticks
DELETE FROM cgk.schedule_ticks WHERE fired_at < now() - make_interval(days => %(days)s);

-- name: coverage
-- Every tenant of a tick: its run, or why it has none. A reason that was not recorded is inferred from how things are.
SELECT t.id AS tenant_id, coalesce(r.id, h.id)::text AS run_id, coalesce(r.state, h.state) AS state,
       CASE WHEN r.id IS NOT NULL OR h.id IS NOT NULL THEN NULL
            WHEN k.skipped->'overlapping' ? t.id THEN 'overlapping'
            WHEN o.is_off THEN 'switched off'
            WHEN t.status <> 'active' THEN 'suspended'
            WHEN t.created_at > k.fired_at THEN 'registered later'
            ELSE 'unknown' END AS reason
  FROM cgk.schedule_ticks k
  JOIN cgk.tenants t ON (t.source = 'platform') = %(for_platform)s
  LEFT JOIN cgk.schedule_overrides o ON o.schedule = k.schedule AND o.tenant_id = t.id
  LEFT JOIN cgk.runs r ON r.id = cgk.tick_run_id(k.schedule, t.id, k.scheduled_for)
  LEFT JOIN cgk.run_history h ON h.id = cgk.tick_run_id(k.schedule, t.id, k.scheduled_for)
 WHERE k.schedule = %(schedule)s AND k.scheduled_for = %(scheduled_for)s
 ORDER BY t.id;

-- name: note_job_events
-- Many workers say the same: what one has said in the last ten minutes costs the others a look.
INSERT INTO cgk.job_events (event)
SELECT e.event FROM unnest(%(events)s::text[]) AS e (event)
 WHERE NOT EXISTS (SELECT FROM cgk.job_events k WHERE k.event = e.event AND k.seen_at > now() - interval '10 minutes')
 ORDER BY e.event
ON CONFLICT (event) DO UPDATE SET seen_at = now();

-- name: job_events
-- A day is counted back from the last word of any worker, not from now: workers that are all stopped over night, or for
-- longer, leave their knowledge behind.
SELECT event FROM cgk.job_events
 WHERE seen_at > (SELECT max(seen_at) FROM cgk.job_events) - interval '1 day';

-- name: leader
SELECT holder::text, extract(epoch FROM expires_at - now())::float8 AS seconds_left
  FROM cgk.leases WHERE name = %(name)s;

-- name: put_override
INSERT INTO cgk.schedule_overrides (schedule, tenant_id, is_off, shift_seconds)
VALUES (%(schedule)s, %(tenant_id)s, %(is_off)s, %(shift_seconds)s)
ON CONFLICT (schedule, tenant_id) DO UPDATE SET is_off = EXCLUDED.is_off, shift_seconds = EXCLUDED.shift_seconds;

-- name: drop_override
DELETE FROM cgk.schedule_overrides WHERE schedule = %(schedule)s AND tenant_id = %(tenant_id)s;

-- name: list_overrides
SELECT schedule, tenant_id, is_off, shift_seconds FROM cgk.schedule_overrides
 WHERE (%(schedule)s::text IS NULL OR schedule = %(schedule)s)
   AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
 ORDER BY schedule, tenant_id;

-- name: put_tenant_schedule
-- A second one with the same key replaces the first, and keeps its id and its pause.
INSERT INTO cgk.tenant_schedules AS known (id, tenant_id, event, payload, cron, timezone, misfire, overlap, max_age,
                                           dedup_key, done_until, next_at)
VALUES (%(id)s::uuid, %(tenant_id)s, %(event)s, %(payload)s::json, %(cron)s, %(timezone)s, %(misfire)s, %(overlap)s,
        %(max_age)s, %(dedup_key)s, %(done_until)s, %(next_at)s)
ON CONFLICT (tenant_id, dedup_key) DO UPDATE
   SET event = EXCLUDED.event, payload = EXCLUDED.payload, misfire = EXCLUDED.misfire, overlap = EXCLUDED.overlap,
       max_age = EXCLUDED.max_age, cron = EXCLUDED.cron, timezone = EXCLUDED.timezone,
       done_until = CASE WHEN (known.cron, known.timezone) = (EXCLUDED.cron, EXCLUDED.timezone)
                         THEN known.done_until ELSE EXCLUDED.done_until END,
       next_at = CASE WHEN (known.cron, known.timezone) = (EXCLUDED.cron, EXCLUDED.timezone)
                      THEN known.next_at ELSE EXCLUDED.next_at END
RETURNING id::text, tenant_id, event, payload::text AS payload, cron, timezone, misfire, overlap, max_age, dedup_key,
          is_paused, next_at, created_at;

-- name: tenant_schedules
SELECT id::text, tenant_id, event, payload::text AS payload, cron, timezone, misfire, overlap, max_age, dedup_key,
       is_paused, next_at, created_at
  FROM cgk.tenant_schedules
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) AND (%(id)s::uuid IS NULL OR id = %(id)s::uuid)
 ORDER BY tenant_id, created_at, id;

-- name: change_tenant_schedule
UPDATE cgk.tenant_schedules
   SET event = %(event)s, payload = %(payload)s::json, cron = %(cron)s, timezone = %(timezone)s, misfire = %(misfire)s,
       overlap = %(overlap)s, max_age = %(max_age)s, is_paused = %(is_paused)s,
       done_until = coalesce(%(done_until)s, done_until), next_at = coalesce(%(next_at)s, next_at)
 WHERE id = %(id)s::uuid
RETURNING id::text, tenant_id, event, payload::text AS payload, cron, timezone, misfire, overlap, max_age, dedup_key,
          is_paused, next_at, created_at;

-- name: drop_tenant_schedule
DELETE FROM cgk.tenant_schedules
 WHERE id = %(id)s::uuid AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
RETURNING id::text;

-- name: due_tenant_schedules
SELECT s.id::text, s.tenant_id, s.event, s.payload::text AS payload, s.cron, s.timezone, s.misfire, s.overlap, s.max_age,
       s.done_until, t.status
  FROM cgk.tenant_schedules s JOIN cgk.tenants t ON t.id = s.tenant_id
 WHERE NOT s.is_paused AND s.next_at <= %(now)s
 ORDER BY s.next_at LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED;

-- name: next_tenant_schedule
-- events: only schedules of these, NULL for all.
SELECT min(next_at) AS next_at FROM cgk.tenant_schedules
 WHERE NOT is_paused AND (%(events)s::text[] IS NULL OR event = ANY(%(events)s::text[]));

-- name: make_tenant_runs
-- One run for each due tick of schedules that tenants made, with its idempotency key.
WITH wanted AS MATERIALIZED (
    SELECT w.*, cgk.tick_run_id(w.schedule, w.tenant_id, w.scheduled_for) AS run_id
      FROM unnest(%(schedule)s::text[], %(tenant_id)s::text[], %(event)s::text[], %(payload)s::text[],
                  %(scheduled_for)s::timestamptz[], %(key)s::text[], %(overlap)s::text[])
           AS w (schedule, tenant_id, event, payload, scheduled_for, key, overlap)
     WHERE w.overlap <> 'skip'
        OR NOT EXISTS (SELECT FROM cgk.runs r WHERE r.schedule = w.schedule AND r.tenant_id = w.tenant_id)
), keys AS (
    INSERT INTO cgk.idempotency_keys (tenant_id, event, key, run_id, payload_hash, expires_at)
    SELECT tenant_id, event, key, run_id, sha256(convert_to(payload, 'UTF8')),
           now() + make_interval(secs => %(key_seconds)s)
      FROM wanted
    ON CONFLICT (tenant_id, event, key) DO NOTHING
    RETURNING run_id
)
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, payload, run_at, handed_over_at, hand_overs,
                      idempotency_key, schedule, scheduled_for)
SELECT run_id, tenant_id, event, 'pending', %(queue)s, %(priority)s, payload::json, greatest(scheduled_for, %(now)s),
       clock_timestamp(), 1, key, schedule, scheduled_for
  FROM wanted JOIN keys USING (run_id)
ON CONFLICT (id) DO NOTHING
RETURNING id::text, tenant_id, event;

-- name: advance_tenant_schedules
UPDATE cgk.tenant_schedules s SET done_until = n.done_until, next_at = n.next_at
  FROM unnest(%(id)s::uuid[], %(done_until)s::timestamptz[], %(next_at)s::timestamptz[]) AS n (id, done_until, next_at)
 WHERE s.id = n.id;
