-- name: begin_tick
-- Whoever gets the row back makes the tick's runs; anybody else waits for that transaction, and gets nothing.
INSERT INTO cgk.schedule_ticks (schedule, scheduled_for, by_hand, given_up)
VALUES (%(schedule)s, %(scheduled_for)s, %(by_hand)s, %(given_up)s)
ON CONFLICT (schedule, scheduled_for) DO NOTHING
RETURNING schedule;

-- name: tenants_with_open_runs
SELECT DISTINCT tenant_id FROM cgk.runs WHERE schedule = %(schedule)s ORDER BY tenant_id;

-- name: tenants_with_key
-- Those for which a tick was made before, that some other tenant still waits for.
SELECT t.id AS tenant_id FROM cgk.tenants t
 WHERE EXISTS (SELECT FROM cgk.idempotency_keys k
                WHERE k.tenant_id = t.id AND k.event = %(event)s AND k.key = %(key)s OFFSET 0);

-- name: leave_tick_open
-- Some tenants' part of it could not be made yet: the schedule stays due.
DELETE FROM cgk.schedule_ticks WHERE schedule = %(schedule)s AND scheduled_for = %(scheduled_for)s;

-- name: end_tick
UPDATE cgk.schedule_ticks
   SET runs = %(runs)s, suspended = %(suspended)s, switched_off = %(switched_off)s, overlapping = %(overlapping)s,
       skipped = jsonb_build_object('overlapping', %(overlapped)s::jsonb)
 WHERE schedule = %(schedule)s AND scheduled_for = %(scheduled_for)s;

-- name: done_until
UPDATE cgk.schedules SET done_until = %(until)s WHERE name = %(schedule)s AND done_until < %(until)s;

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

-- fragment: covered_by_tick(match)
-- Every tenant of a tick: its run, or why it has none. A reason that was not recorded is inferred from how things are. Runs of
-- its moment are found by their ids, so that the history is not read; they close after it, but for what clocks differ.
WITH tick AS MATERIALIZED (
    SELECT *, floor(extract(epoch FROM scheduled_for) * 1000)::bigint AS ms FROM cgk.schedule_ticks
     WHERE schedule = %(schedule)s AND scheduled_for = %(scheduled_for)s
), of_moment AS MATERIALIZED (
    SELECT r.id, r.state, r.tenant_id, r.schedule
      FROM tick k, LATERAL (
           SELECT id, state, tenant_id, schedule FROM cgk.runs
            WHERE id >= {{id_from(k.ms)}} AND id < {{id_from(k.ms + 1)}}
           UNION ALL
           SELECT id, state, tenant_id, schedule FROM cgk.run_history
            WHERE id >= {{id_from(k.ms)}} AND id < {{id_from(k.ms + 1)}}
              AND closed_at >= k.scheduled_for - interval '1 hour') AS r
), covered AS (
    SELECT t.id AS tenant_id, r.id::text AS run_id, r.state,
           CASE WHEN r.id IS NOT NULL THEN NULL
                WHEN k.skipped->'overlapping' ? t.id THEN 'overlapping'
                WHEN o.is_off THEN 'switched off'
                WHEN t.status <> 'active' THEN 'suspended'
                WHEN t.created_at > k.fired_at THEN 'registered later'
                ELSE 'unknown' END AS reason
      FROM tick k
      JOIN cgk.tenants t ON (t.source = 'platform') = %(for_platform)s
      LEFT JOIN cgk.schedule_overrides o ON o.schedule = k.schedule AND o.tenant_id = t.id
      LEFT JOIN of_moment r ON {match}
)

-- name: coverage
{{covered_by_tick(r.id = cgk.tick_run_id(k.schedule, t.id, k.scheduled_for))}}
SELECT tenant_id, run_id, state, reason FROM covered ORDER BY tenant_id;

-- name: coverage_in_short
-- How many tenants there are, how many were reached, and the first of the others. Runs are known by their columns: to compute
-- the id of each tenant's run takes three times as long.
{{covered_by_tick(r.tenant_id = t.id AND r.schedule = k.schedule)}}
SELECT count(*) AS tenants, count(*) FILTER (WHERE reason IS NULL) AS reached,
       (SELECT coalesce(json_agg(missed ORDER BY tenant_id), '[]')
          FROM (SELECT tenant_id, reason FROM covered WHERE reason IS NOT NULL ORDER BY tenant_id LIMIT %(most)s) AS missed) AS missed
  FROM covered;

-- name: note_job_events
-- Many workers say the same: what one has said in the last ten minutes costs the others a look.
INSERT INTO cgk.job_events (event, queue, priority)
SELECT e.event, e.queue, e.priority
  FROM unnest(%(events)b::text[], %(queues)b::text[], %(priorities)b::smallint[]) AS e (event, queue, priority)
 WHERE NOT EXISTS (
    SELECT FROM cgk.job_events k
     WHERE k.event = e.event AND k.seen_at > now() - interval '10 minutes'
       AND (k.queue, k.priority) IS NOT DISTINCT FROM (e.queue, e.priority))
 ORDER BY e.event
ON CONFLICT (event) DO UPDATE SET seen_at = now(), queue = EXCLUDED.queue, priority = EXCLUDED.priority;

-- name: noted_routes
-- limits, send_rules: as JSON the row is read also before there are such columns.
SELECT event, queue, priority, limits, send_rules FROM (
    SELECT event, queue, priority, to_jsonb(e) ->> 'limits' AS limits, to_jsonb(e) ->> 'send_rules' AS send_rules
      FROM cgk.job_events e) AS noted
 WHERE queue IS NOT NULL OR priority IS NOT NULL OR limits IS NOT NULL OR send_rules IS NOT NULL;

-- name: note_limits
UPDATE cgk.job_events k SET limits = e.limits
  FROM unnest(%(events)b::text[], %(limits)b::text[]) AS e (event, limits)
 WHERE k.event = e.event AND k.limits IS DISTINCT FROM e.limits;

-- name: note_rules
-- The same, with what decides about runs when they are sent.
UPDATE cgk.job_events k SET limits = e.limits, send_rules = e.send_rules
  FROM unnest(%(events)b::text[], %(limits)b::text[], %(send_rules)b::text[]) AS e (event, limits, send_rules)
 WHERE k.event = e.event AND (k.limits, k.send_rules) IS DISTINCT FROM (e.limits, e.send_rules);

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
 ORDER BY schedule, tenant_id LIMIT %(limit)s;

-- name: put_tenant_schedule
-- A second one with the same key replaces the first, and keeps its id and its pause.
INSERT INTO cgk.tenant_schedules AS known (id, tenant_id, event, sealed_payload, key_id, cron, timezone, misfire, overlap,
                                           max_age, dedup_key, done_until, next_at)
VALUES (%(id)s::uuid, %(tenant_id)s, %(event)s, %(sealed_payload)s, %(key_id)s, %(cron)s, %(timezone)s, %(misfire)s,
        %(overlap)s, %(max_age)s, %(dedup_key)s, %(done_until)s, %(next_at)s)
ON CONFLICT (tenant_id, dedup_key) DO UPDATE
   SET event = EXCLUDED.event, sealed_payload = EXCLUDED.sealed_payload, key_id = EXCLUDED.key_id,
       misfire = EXCLUDED.misfire, overlap = EXCLUDED.overlap, max_age = EXCLUDED.max_age, cron = EXCLUDED.cron, timezone = EXCLUDED.timezone,
       done_until = CASE WHEN (known.cron, known.timezone) = (EXCLUDED.cron, EXCLUDED.timezone)
                         THEN known.done_until ELSE EXCLUDED.done_until END,
       next_at = CASE WHEN (known.cron, known.timezone) = (EXCLUDED.cron, EXCLUDED.timezone)
                      THEN known.next_at ELSE EXCLUDED.next_at END
RETURNING id::text, tenant_id, event, sealed_payload, key_id, cron, timezone, misfire, overlap, max_age, dedup_key,
          is_paused, next_at, created_at;

-- name: tenant_schedules
SELECT id::text, tenant_id, event, sealed_payload, key_id, cron, timezone, misfire, overlap, max_age, dedup_key,
       is_paused, next_at, created_at
  FROM cgk.tenant_schedules
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) AND (%(id)s::uuid IS NULL OR id = %(id)s::uuid)
 ORDER BY tenant_id, created_at, id;

-- name: page_of_tenant_schedules
-- By tenant, and those of a tenant in the order in which they were made. after_tenant, after_id: those of the last one of the page before.
SELECT id::text, tenant_id, event, sealed_payload, key_id, cron, timezone, misfire, overlap, max_age, dedup_key,
       is_paused, next_at, created_at
  FROM cgk.tenant_schedules
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
   AND tenant_id >= %(after_tenant)s AND (tenant_id, id) > (%(after_tenant)s, %(after_id)s::uuid)
 ORDER BY tenant_id, id LIMIT %(limit)s;

-- name: count_tenant_schedules
-- Up to so many.
SELECT count(*) AS schedules FROM (
    SELECT FROM cgk.tenant_schedules WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s LIMIT %(most)s) AS counted;

-- name: change_tenant_schedule
UPDATE cgk.tenant_schedules
   SET event = %(event)s, sealed_payload = %(sealed_payload)s, key_id = %(key_id)s, cron = %(cron)s,
       timezone = %(timezone)s, misfire = %(misfire)s, overlap = %(overlap)s, max_age = %(max_age)s, is_paused = %(is_paused)s,
       done_until = coalesce(%(done_until)s, done_until), next_at = coalesce(%(next_at)s, next_at)
 WHERE id = %(id)s::uuid
RETURNING id::text, tenant_id, event, sealed_payload, key_id, cron, timezone, misfire, overlap, max_age, dedup_key,
          is_paused, next_at, created_at;

-- name: drop_tenant_schedule
DELETE FROM cgk.tenant_schedules
 WHERE id = %(id)s::uuid AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
RETURNING id::text;

-- name: due_tenant_schedules
SELECT s.id::text, s.tenant_id, s.event, s.sealed_payload, s.key_id, s.cron, s.timezone, s.misfire, s.overlap, s.max_age,
       s.done_until, t.status
  FROM cgk.tenant_schedules s JOIN cgk.tenants t ON t.id = s.tenant_id
 WHERE NOT s.is_paused AND s.next_at <= %(now)s
 ORDER BY s.next_at LIMIT %(limit)s FOR UPDATE OF s SKIP LOCKED;

-- name: next_tenant_schedule
-- events: only schedules of these, NULL for all.
SELECT min(next_at) AS next_at FROM cgk.tenant_schedules
 WHERE NOT is_paused AND (%(events)b::text[] IS NULL OR event = ANY(%(events)b::text[]));

-- name: advance_tenant_schedules
UPDATE cgk.tenant_schedules s SET done_until = n.done_until, next_at = n.next_at
  FROM unnest(%(id)s::uuid[], %(done_until)b::timestamptz[], %(next_at)b::timestamptz[]) AS n (id, done_until, next_at)
 WHERE s.id = n.id;

-- name: note_failing_entry
INSERT INTO cgk.failing_entries AS known (name, task, reason) VALUES (%(name)s, %(task)s, %(reason)s)
ON CONFLICT (name) DO UPDATE SET task = EXCLUDED.task, reason = EXCLUDED.reason, failed_at = now();

-- name: entry_is_sent
DELETE FROM cgk.failing_entries WHERE name = %(name)s;

-- name: keep_failing_entries
-- Entries that were removed or switched off do not fail any more.
DELETE FROM cgk.failing_entries WHERE NOT name = ANY(%(names)b::text[]);

-- name: notes_failing_entries
-- Whether the table is there: it is not where the upgrade before was not finished.
SELECT to_regclass('cgk.failing_entries') IS NOT NULL AS yes;

-- name: failing_entries
SELECT name, task, failing_since, failed_at, reason FROM cgk.failing_entries ORDER BY name;

-- name: reached
-- How many tenants are active, and for how many of them each schedule is switched off.
WITH active AS MATERIALIZED (
    SELECT id FROM cgk.tenants WHERE status = 'active' AND source <> 'platform'
)
SELECT (SELECT count(*) FROM active)::int AS active,
       (SELECT jsonb_object_agg(schedule, tenants)
          FROM (SELECT o.schedule, count(*)::int AS tenants FROM cgk.schedule_overrides o JOIN active ON active.id = o.tenant_id
                 WHERE o.is_off GROUP BY o.schedule) AS counted) AS off;
