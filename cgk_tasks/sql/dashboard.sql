-- name: statement_timeout
-- A page that would take longer than this many milliseconds gives up instead of keeping PostgreSQL busy. And each question is
-- planned for what it asks: the plan for any tenant reads the whole record of a tenant that has little.
SELECT set_config('statement_timeout', %(milliseconds)s, true), set_config('plan_cache_mode', 'force_custom_plan', true);

-- fragment: tells_time
-- A CASE, of which the planner takes half to match: of the comparison alone it takes one in two hundred, and reads and sorts the
-- whole history for some thousand runs.
CASE WHEN (get_byte(uuid_send(r.id), 6) & 240) = 112 THEN true ELSE false END

-- name: open_runs
-- Ids in the order of time: the primary key is the order of the list. `where` is made of the conditions below.
SELECT r.id, to_timestamp(('x' || left(replace(r.id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AS sent_at,
       tenant_id, event, job, state, attempt, deaths, run_at, started_at, NULL::timestamptz AS closed_at,
       last_error_code AS error_code, sealed_payload, key_id, parent_id::text, replay_of::text
  FROM cgk.runs r
 WHERE {{tells_time}} AND r.id < %(before_v7)s::uuid AND r.id >= %(since_v7)s::uuid {where}
 ORDER BY r.id DESC LIMIT %(limit)s

-- name: closed_runs
-- A run closes after it was sent, but for what clocks differ: so days before are left out, and of a tenant the index of its closed
-- runs helps.
SELECT r.id, to_timestamp(('x' || left(replace(r.id::text, '-', ''), 12))::bit(48)::bigint / 1000.0) AS sent_at,
       tenant_id, event, job, state, attempt, deaths, run_at, started_at, closed_at,
       error_code, sealed_payload, key_id, parent_id::text, replay_of::text
  FROM cgk.run_history r
 WHERE {{tells_time}} AND r.id < %(before_v7)s::uuid AND r.id >= %(since_v7)s::uuid
   AND r.closed_at >= %(since)s::timestamptz - interval '1 hour' {where}
 ORDER BY r.id DESC LIMIT %(limit)s

-- name: open_external_runs
-- Ids that tell no time, from other producers' messages.
SELECT r.id, created_at AS sent_at,
       tenant_id, event, job, state, attempt, deaths, run_at, started_at, NULL::timestamptz AS closed_at,
       last_error_code AS error_code, sealed_payload, key_id, parent_id::text, replay_of::text
  FROM cgk.runs r
 WHERE (get_byte(uuid_send(r.id), 6) & 240) <> 112 AND (r.created_at, r.id) < (%(before_at)s, %(before_id)s::uuid)
   AND r.created_at >= %(since)s {where}
 ORDER BY r.created_at DESC, r.id DESC LIMIT %(limit)s

-- name: closed_external_runs
SELECT r.id, created_at AS sent_at,
       tenant_id, event, job, state, attempt, deaths, run_at, started_at, closed_at,
       error_code, sealed_payload, key_id, parent_id::text, replay_of::text
  FROM cgk.run_history r
 WHERE (get_byte(uuid_send(r.id), 6) & 240) <> 112 AND (r.created_at, r.id) < (%(before_at)s, %(before_id)s::uuid)
   AND r.created_at >= %(since)s {where}
 ORDER BY r.created_at DESC, r.id DESC LIMIT %(limit)s

-- name: merged_runs
SELECT id::text, sent_at, tenant_id, event, job, state, attempt, deaths, run_at, started_at, closed_at, error_code,
       sealed_payload, key_id, parent_id, replay_of
  FROM ({branches}) AS found ORDER BY found.sent_at DESC, found.id DESC LIMIT %(limit)s;

-- name: states_of_runs
-- How many there are of each state, each branch up to its limit.
SELECT state, count(*) AS runs FROM ({branches}) AS found GROUP BY state;

-- name: accepted_before
-- How many runs were sent in each minute, and of two days ago and earlier in each hour, before a time, the last first: those that
-- it takes to come to so many, without the first, which may go on. tenant_id: '' for all.
SELECT begin, seconds, accepted FROM (
    SELECT begin, seconds, accepted, sum(accepted) OVER by_time - accepted - first_value(accepted) OVER by_time AS later
      FROM cgk.run_counts
     WHERE tenant_id = %(tenant_id)s AND begin < %(before)s::timestamptz
       AND ((seconds = 60 AND begin >= date_bin('1 hour', now() - interval '47 hours', '2000-01-01Z'))
            OR (seconds = 3600 AND begin < date_bin('1 hour', now() - interval '47 hours', '2000-01-01Z')))
    WINDOW by_time AS (ORDER BY begin DESC)) AS counted
 WHERE later < %(most)s ORDER BY begin DESC;

-- name: where_tenant
r.tenant_id = %(tenant_id)s

-- name: where_event
r.event = %(event)s

-- name: where_event_like
r.event LIKE %(event)s

-- name: where_job
r.job = %(job)s

-- name: where_state
r.state = %(state)s

-- name: where_states
r.state = ANY(%(states)s::text[])

-- name: where_ids
r.id = ANY(%(ids)s::uuid[])

-- name: where_queue
r.queue = %(queue)s

-- name: where_error_open
r.last_error_code = %(error_code)s

-- name: where_error_closed
r.error_code = %(error_code)s

-- name: where_error_open_like
r.last_error_code LIKE %(error_code)s

-- name: where_error_closed_like
r.error_code LIKE %(error_code)s

-- name: where_closed
r.closed_at >= %(closed_since)s::timestamptz AND r.closed_at < %(closed_until)s::timestamptz

-- name: where_text
-- Quick look at all of them first; then at the fields that the event marks as searchable now, and at no others.
CASE WHEN coalesce(strpos(r.search_fields, %(text)s), 0) = 0 THEN false
     ELSE EXISTS (SELECT FROM unnest(string_to_array(r.search_fields, E'\n')) AS field (line)
                    JOIN unnest(%(searchable_events)b::text[], %(searchable_fields)b::text[]) AS s (event, name)
                      ON s.event = r.event AND starts_with(field.line, s.name || '=')
                   WHERE strpos(substr(field.line, length(s.name) + 2), %(text)s) > 0) END

-- name: open_by_state
SELECT state, count(*) AS runs FROM cgk.runs
 WHERE %(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s GROUP BY state;

-- name: run
-- A run with everything that is on record about it: the open one, else the one that closed last.
SELECT id::text, tenant_id, event, job, state, queue, priority, sealed_payload, key_id, max_attempts, attempt, deaths,
       run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id::text, worker_pid,
       parent_id::text, children_open, replay_of::text, idempotency_key,
       nullif(cancel_requested_at, 'infinity') AS cancel_requested_at,
       sealed_canvas IS NOT NULL AS has_canvas, sealed_cursor, sealed_errors, errors_left_out, schedule, scheduled_for, trace,
       search_fields, NULL::timestamptz AS closed_at, NULL::bytea AS sealed_result, NULL::text AS error_code
  FROM cgk.runs WHERE id = %(id)s::uuid
UNION ALL
(SELECT id::text, tenant_id, event, job, state, queue, priority, sealed_payload, key_id, max_attempts, attempt, deaths,
        run_at, expires_at, created_at, handed_over_at, hand_overs, started_at, worker_id::text, worker_pid,
        parent_id::text, children_open, replay_of::text, idempotency_key, cancel_requested_at,
        sealed_canvas IS NOT NULL, sealed_cursor, sealed_errors, errors_left_out, schedule, scheduled_for, NULL, search_fields,
        closed_at, sealed_result, error_code
   FROM cgk.run_history WHERE id = %(id)s::uuid ORDER BY closed_at DESC LIMIT 1)
LIMIT 1;

-- name: relatives
-- Children and replays of a run, open and closed. With the payload where an error code may quote it.
SELECT id::text, tenant_id, job, state, created_at, started_at, closed_at, error_code,
       CASE WHEN is_child THEN 'child' ELSE 'replay' END AS relation,
       event, key_id, CASE WHEN error_code IS NOT NULL THEN sealed_payload END AS sealed_payload FROM (
    SELECT id, tenant_id, event, job, state, created_at, started_at, NULL::timestamptz AS closed_at,
           last_error_code AS error_code, true AS is_child, sealed_payload, key_id
      FROM cgk.runs WHERE parent_id = %(id)s::uuid
    UNION ALL
    SELECT id, tenant_id, event, job, state, created_at, started_at, closed_at, error_code, true, sealed_payload, key_id
      FROM cgk.run_history WHERE parent_id = %(id)s::uuid
    UNION ALL
    SELECT id, tenant_id, event, job, state, created_at, started_at, NULL, last_error_code, false, sealed_payload, key_id
      FROM cgk.runs WHERE replay_of = %(id)s::uuid
    UNION ALL
    SELECT id, tenant_id, event, job, state, created_at, started_at, closed_at, error_code, false, sealed_payload, key_id
      FROM cgk.run_history WHERE replay_of = %(id)s::uuid
) AS relative ORDER BY created_at, id LIMIT 200;

-- name: discarded
SELECT a.who, a.at FROM cgk.discarded_runs d JOIN cgk.audit a ON a.id = d.audit_id WHERE d.run_id = %(id)s::uuid;

-- name: worker
SELECT name FROM cgk.workers WHERE id = %(id)s::uuid;

-- name: payloads
-- For the lists of Flower: what runs were sent with.
SELECT id::text, tenant_id, event, sealed_payload, key_id FROM cgk.runs WHERE id = %(id)s::uuid
UNION ALL
SELECT id::text, tenant_id, event, sealed_payload, key_id FROM cgk.run_history WHERE id = %(id)s::uuid
LIMIT 1;

-- fragment: open_of_tenants(in_lane)
WITH open AS (
    SELECT tenant_id, count(*) AS open,
           count(*) FILTER (WHERE state = 'pending') AS pending, count(*) FILTER (WHERE state = 'running') AS running,
           count(*) FILTER (WHERE state = 'retrying') AS retrying, count(*) FILTER (WHERE state = 'held') AS held,
           count(*) FILTER (WHERE state = 'scheduled') AS scheduled,
           extract(epoch FROM now() - min(greatest(run_at, created_at))
                   FILTER (WHERE state = 'pending' OR (state = 'held' AND {in_lane})))::float8 AS waiting_seconds
      FROM cgk.runs GROUP BY tenant_id
)

-- fragment: closed_on_record
closed AS (
    SELECT tenant_id, count(*) AS closed, count(*) FILTER (WHERE state = 'completed') AS completed,
           count(*) FILTER (WHERE state = 'failed') AS failed
      FROM cgk.run_history WHERE closed_at >= now() - make_interval(hours => %(hours)s) GROUP BY tenant_id
)

-- fragment: tenants_listed
SELECT t.id, t.status, t.source, t.suspended_at, t.suspended_by,
       coalesce(open, 0) AS open, coalesce(pending, 0) AS pending, coalesce(running, 0) AS running,
       coalesce(retrying, 0) AS retrying, coalesce(held, 0) AS held, coalesce(scheduled, 0) AS scheduled,
       waiting_seconds, coalesce(closed, 0) AS closed, coalesce(completed, 0) AS completed,
       coalesce(failed, 0) AS failed
  FROM cgk.tenants t LEFT JOIN open ON open.tenant_id = t.id LEFT JOIN closed ON closed.tenant_id = t.id
 WHERE (%(starts_with)s::text IS NULL OR starts_with(t.id, %(starts_with)s)) AND (%(after)s::text IS NULL OR t.id > %(after)s)
 ORDER BY CASE WHEN %(busiest)s THEN coalesce(open, 0) + coalesce(failed, 0) END DESC NULLS LAST, t.id
 LIMIT %(limit)s

-- name: tenant_ids
SELECT id FROM cgk.tenants ORDER BY id LIMIT %(limit)s;

-- name: tenant_counts
-- Open runs now, and what closed since then, as far as the leader has counted. Waiting: due, and not begun. What decides the
-- order is counted of all tenants, failures by the index of rows that have some; the rest of those alone that are listed.
{{open_of_tenants(lane_id IS NOT NULL)}}, failing AS (
    SELECT tenant_id, sum(failed)::bigint AS failed FROM cgk.run_counts
     WHERE failed > 0 AND tenant_id <> '' AND {{counted_since}} GROUP BY tenant_id
), closed AS (
    SELECT tenant_id, 0 AS closed, 0 AS completed, failed FROM failing
), listed AS MATERIALIZED ({{tenants_listed}})
SELECT l.id, l.status, l.source, l.suspended_at, l.suspended_by, l.open, l.pending, l.running, l.retrying, l.held, l.scheduled,
       l.waiting_seconds, coalesce(c.closed, 0) AS closed, coalesce(c.completed, 0) AS completed, l.failed
  FROM listed l LEFT JOIN LATERAL (
       SELECT sum(closed)::bigint AS closed, sum(completed)::bigint AS completed FROM cgk.run_counts
        WHERE tenant_id = l.id AND {{counted_since}}) AS c ON true
 ORDER BY CASE WHEN %(busiest)s THEN l.open + l.failed END DESC NULLS LAST, l.id;

-- name: tenant_counts_before_counts
-- The same before cgk-tasks migrate, while nobody counts.
{{open_of_tenants(lane_id IS NOT NULL)}}, {{closed_on_record}}
{{tenants_listed}};

-- name: tenant_counts_before_lanes
-- The same before cgk-tasks migrate --finish, while there are no lanes.
{{open_of_tenants(false)}}, {{closed_on_record}}
{{tenants_listed}};

-- fragment: dealt_with
-- Failed runs that somebody has put aside or run again; and parents of which a child failed too, which stands for them. As the
-- view cgk.dead_letters has it, but found once, by the small indexes of what they are, and not asked for each failed run.
SELECT run_id AS id FROM cgk.discarded_runs
UNION ALL SELECT replay_of FROM cgk.runs WHERE replay_of IS NOT NULL
UNION ALL SELECT replay_of FROM cgk.run_history WHERE replay_of IS NOT NULL
UNION ALL SELECT parent_id FROM cgk.run_history WHERE state = 'failed' AND parent_id IS NOT NULL

-- name: count_dead_letters
-- Up to so many.
WITH dealt_with AS MATERIALIZED ({{dealt_with}})
SELECT count(*) AS runs FROM (
    SELECT FROM cgk.run_history h
     WHERE h.state = 'failed' AND (%(tenant_id)s::text IS NULL OR h.tenant_id = %(tenant_id)s)
       AND NOT EXISTS (SELECT FROM dealt_with d WHERE d.id = h.id) LIMIT %(most)s) AS found;

-- name: dead_letter_groups
-- Finds the groups by jumping from one to the next in the index; then counts the last of each that nobody has dealt with. Reads
-- the index alone. has_more: there are more failed runs than those.
WITH RECURSIVE dealt_with AS MATERIALIZED ({{dealt_with}}), groups AS (
    (SELECT event, error_fingerprint AS fingerprint FROM cgk.run_history
      WHERE state = 'failed' ORDER BY event, error_fingerprint LIMIT 1)
    UNION ALL
    SELECT following.* FROM groups, LATERAL (
        SELECT event, error_fingerprint FROM cgk.run_history
         WHERE state = 'failed' AND (event, error_fingerprint) > (groups.event, groups.fingerprint)
         ORDER BY event, error_fingerprint LIMIT 1) AS following
), listed AS (
    SELECT * FROM groups LIMIT %(limit)s
), failed AS (
    SELECT g.event, g.fingerprint, h.*
      FROM listed g, LATERAL (
           SELECT id, tenant_id, closed_at FROM cgk.run_history
            WHERE state = 'failed' AND event = g.event AND error_fingerprint = g.fingerprint
              AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
            ORDER BY closed_at DESC LIMIT %(most)s + 1) AS h
), asked AS (
    SELECT f.*, d.id IS NULL AS is_dead
      FROM failed f LEFT JOIN (SELECT DISTINCT id FROM dealt_with) AS d ON d.id = f.id
)
SELECT event, fingerprint, least(count(*) FILTER (WHERE is_dead), %(most)s) AS runs,
       count(DISTINCT tenant_id) FILTER (WHERE is_dead) AS tenants, min(closed_at) FILTER (WHERE is_dead) AS first_at,
       max(closed_at) FILTER (WHERE is_dead) AS last_at, count(*) > %(most)s AS has_more,
       (array_agg(id ORDER BY is_dead DESC, closed_at DESC))[1]::text AS example
  FROM asked GROUP BY 1, 2 HAVING bool_or(is_dead) OR count(*) > %(most)s ORDER BY last_at DESC NULLS LAST;

-- name: groups_of_event
-- The largest groups of one event, of so many dead letters at most. Reads the index alone.
WITH dealt_with AS MATERIALIZED ({{dealt_with}}), found AS (
    SELECT event, error_fingerprint AS fingerprint, tenant_id, closed_at, id FROM cgk.run_history h
     WHERE state = 'failed' AND event = %(event)s AND NOT EXISTS (SELECT FROM dealt_with d WHERE d.id = h.id)
     LIMIT %(most)s
)
SELECT event, fingerprint, count(*) AS runs, count(DISTINCT tenant_id) AS tenants, min(closed_at) AS first_at,
       max(closed_at) AS last_at, false AS has_more, (array_agg(id ORDER BY closed_at DESC))[1]::text AS example
  FROM found GROUP BY 1, 2 ORDER BY 3 DESC, 2 LIMIT %(limit)s;

-- name: dead_letter_examples
SELECT id::text, tenant_id, event, error_code, key_id, sealed_payload,
       sealed_errors[cardinality(sealed_errors)] AS sealed_error
  FROM cgk.run_history WHERE id = ANY(%(ids)s::uuid[]);

-- name: dead_letters
-- The newest of one group, a page at a time.
SELECT id::text, tenant_id, event, job, error_code, key_id, sealed_payload,
       sealed_errors[cardinality(sealed_errors)] AS sealed_error, created_at, closed_at
  FROM cgk.dead_letters
 WHERE event = %(event)s AND error_fingerprint = %(fingerprint)s
   AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
   AND (%(before_at)s::timestamptz IS NULL OR (closed_at, id) < (%(before_at)s, %(before_id)s::uuid))
 ORDER BY closed_at DESC, id DESC LIMIT %(limit)s;

-- name: count_group
WITH dealt_with AS MATERIALIZED ({{dealt_with}})
SELECT count(*) AS runs, count(DISTINCT tenant_id) AS tenants FROM cgk.run_history h
 WHERE state = 'failed' AND event = %(event)s AND error_fingerprint = %(fingerprint)s
   AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
   AND (%(until)s::timestamptz IS NULL OR closed_at <= %(until)s)
   AND NOT EXISTS (SELECT FROM dealt_with d WHERE d.id = h.id);

-- name: lock_group
-- One person works on a group at a time: who comes second sees what the first has done.
SELECT pg_advisory_xact_lock(hashtextextended('cgk.dead_letters|' || %(event)s || '|' || %(fingerprint)s, 0));

-- name: next_of_group
-- until: what fails again meanwhile is not taken up again. after: the last one of the batch before.
SELECT id::text, tenant_id, event, job, queue, priority, sealed_payload, max_attempts, parent_id::text, sealed_canvas,
       key_id, scheduled_for, closed_at
  FROM cgk.dead_letters
 WHERE event = %(event)s AND error_fingerprint = %(fingerprint)s
   AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
   AND closed_at <= %(until)s AND (%(after)s::uuid IS NULL OR id > %(after)s::uuid)
 ORDER BY id LIMIT %(limit)s;

-- name: still_dead_letters
-- Asked once nobody else can run them again.
SELECT id::text FROM cgk.dead_letters WHERE id = ANY(%(ids)s::uuid[]);

-- name: discard
INSERT INTO cgk.discarded_runs (run_id, closed_at, audit_id)
SELECT run_id, closed_at, %(audit_id)s FROM unnest(%(ids)s::uuid[], %(closed_at)b::timestamptz[]) AS d (run_id, closed_at)
ON CONFLICT (run_id) DO NOTHING;

-- name: begin_action
INSERT INTO cgk.audit (who, role, via, action, subject, tenant_id, expected, details)
VALUES (%(who)s, %(role)s, %(via)s, %(action)s, %(subject)s, %(tenant_id)s, %(expected)s, %(details)s::jsonb)
RETURNING id, at;

-- name: note_action
INSERT INTO cgk.audit (who, role, via, action, subject, tenant_id, affected, outcome, message, details)
VALUES (%(who)s, '', %(via)s, %(action)s, %(subject)s, %(tenant_id)s, %(affected)s, 'done', %(message)s, %(details)s::jsonb);

-- name: forget_program_actions
-- What people did is kept; what programs did, for as long as the runs that they did it to.
DELETE FROM cgk.audit WHERE via IN ('python', 'api') AND at < now() - make_interval(days => %(days)s);

-- name: end_action
-- Not of one that somebody has taken over.
UPDATE cgk.audit SET outcome = %(outcome)s, message = %(message)s, affected = %(affected)s, seen_at = clock_timestamp()
 WHERE id = %(id)s AND outcome = 'begun';

-- name: progress
UPDATE cgk.audit SET affected = %(affected)s, details = details || %(details)s::jsonb, seen_at = clock_timestamp()
 WHERE id = %(id)s AND outcome = 'begun'
RETURNING abort_requested_at IS NOT NULL AS abort;

-- name: request_abort
UPDATE cgk.audit SET abort_requested_at = coalesce(abort_requested_at, clock_timestamp())
 WHERE id = %(id)s AND outcome = 'begun'
RETURNING id;

-- name: take_lost_action
-- One of several people takes over what a dashboard that is gone has left. Should it live after all, it is asked to stop.
UPDATE cgk.audit
   SET outcome = 'failed', message = 'Its dashboard ended in the middle; ' || %(who)s || ' resumed it',
       abort_requested_at = coalesce(abort_requested_at, clock_timestamp())
 WHERE id = %(id)s AND outcome = 'begun' AND expected IS NOT NULL
   AND seen_at < clock_timestamp() - interval '60 seconds'
RETURNING id;

-- name: audit
-- is_lost: begun, and nobody has said anything about it for a while, so its process is gone.
SELECT id, at, who, role, via, action, subject, tenant_id, expected, affected, outcome, message, details, seen_at,
       abort_requested_at, outcome = 'begun' AND seen_at < clock_timestamp() - interval '60 seconds' AS is_lost
  FROM cgk.audit
 WHERE (%(before)s::bigint IS NULL OR id < %(before)s) AND (%(id)s::bigint IS NULL OR id = %(id)s)
   AND (%(subject)s::text IS NULL OR subject = %(subject)s)
 ORDER BY id DESC LIMIT %(limit)s;
