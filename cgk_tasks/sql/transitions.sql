-- The state table of a run: every statement that makes a run, moves it to another state or closes it. Each transition has
-- one text, whoever makes it; where one statement is for a single run and another for many, both are made of that text,
-- because arrays of one would cost twice as much.
--
-- What is kept of a run's content stands in the sealed_ columns: bytes, which runs/sealing.py alone makes and reads, with
-- the key of the row. Here they are moved, and the array of errors is appended to; nothing looks into them.

-- fragment: new_run
-- The columns of a run that its sender decides; run_at apart, which has a default.
id, tenant_id, event, job, state, queue, priority, sealed_payload, max_attempts, expires_at, parent_id, replay_of,
idempotency_key, sealed_canvas, scheduled_for, trace, key_id, search_fields, schedule

-- fragment: kept
-- What closing a run takes from the open record into the history as it is. started_at is the claim's, of all runs of a packet;
-- in the history it is where the attempt began, if its worker says how long that took.
id, tenant_id, event, queue, priority, sealed_payload, max_attempts, attempt, deaths, run_at, expires_at, created_at,
handed_over_at, hand_overs, worker_id, worker_pid, parent_id, children_open, replay_of, idempotency_key,
sealed_canvas, sealed_cursor, key_id, search_fields, schedule, scheduled_for

-- fragment: claimed
-- What a worker gets to know of a run that it holds.
r.state, r.id::text, r.tenant_id, r.event, r.job, r.queue, r.priority, r.sealed_payload, r.max_attempts, r.attempt,
r.deaths, r.run_at, r.created_at, r.started_at, r.parent_id::text, r.sealed_canvas, r.sealed_cursor, r.key_id,
r.first_failed_at, r.scheduled_for, r.trace, r.expires_at, t.id AS tenant, t.status, t.isolation, t.schema_name, t.role_name

-- fragment: waits_for_its_time
-- Of runs that are found by their ids. As `is`, in words that no index fits.
coalesce(r.state IN ('scheduled', 'retrying'), false)

-- fragment: nth(ids)
-- Which of these ids the row has. Values that come with the ids are looked up by it. They are not joined to the rows that
-- are changed, of which PostgreSQL may form a row for each pair: for a packet of a thousand that was some seconds.
((SELECT jsonb_object_agg(id, nth) FROM unnest({ids}) WITH ORDINALITY AS given (id, nth)) ->> r.id::text)::int

-- fragment: owned
-- The run that this attempt holds.
r.id = %(id)s::uuid AND {{is('running')}} AND attempt = %(attempt)s AND NOT worker_id IS DISTINCT FROM %(worker_id)s::uuid

-- fragment: dispatched
r.id::text, r.tenant_id, r.event, r.queue, r.priority, r.deaths, r.state, r.handed_over_at

-- fragment: closed
-- What those who close runs that no worker holds need for what follows.
id::text, parent_id::text, state, sealed_canvas IS NOT NULL AS has_canvas, tenant_id, event

-- fragment: durability
-- `off` where the caller waits for the disk itself, or needs not. A condition, which is looked at once and not for each row.
(SELECT set_config('synchronous_commit', %(durability)s, true)) IS NOT NULL

-- fragment: gives_way
-- Whoever has locked a run may keep it for hours: an application's open transaction that cancels or signals it. This
-- statement fails after a second instead. A condition, which is looked at once and not for each row.
(SELECT set_config('lock_timeout', '1000', true)) IS NOT NULL

-- fragment: errors_with(error)
-- A run's errors after one more, if there is one: the first and the last 20. All of them would be read and written again
-- at each further attempt.
CASE WHEN {error} IS NULL THEN sealed_errors
     WHEN sealed_errors IS NULL OR cardinality(sealed_errors) <= 20 THEN sealed_errors || {error}
     ELSE sealed_errors[1:1] || sealed_errors[cardinality(sealed_errors) - 18:] || {error} END

-- fragment: errors_left_out_with(error)
-- How many errors are left out then, between the first and the second of those that are kept.
CASE WHEN {error} IS NULL OR sealed_errors IS NULL OR cardinality(sealed_errors) <= 20 THEN errors_left_out
     ELSE coalesce(errors_left_out, 0) + cardinality(sealed_errors) - 20 END

-- fragment: insert_with(more)
-- nothing → scheduled, held or pending. A run that is due is inserted as dispatched: the sender publishes it right after
-- the commit, and if that fails the dispatcher notices.
INSERT INTO cgk.runs ({{new_run}}, run_at, handed_over_at, hand_overs{more})
SELECT {{new_run}}, coalesce(run_at, now()), CASE WHEN state = 'pending' THEN clock_timestamp() END,
       (state = 'pending')::int{more}

-- fragment: insert(new)
{{insert_with()}}
  FROM {new}
ON CONFLICT (id) DO NOTHING

-- fragment: without_sender
-- What a run has not that a schedule makes.
NULL::text AS job, NULL::int AS max_attempts, NULL::uuid AS parent_id, NULL::uuid AS replay_of,
NULL::bytea AS sealed_canvas, NULL::text AS trace

-- fragment: one_run(place)
(SELECT %(id)s::uuid AS id, %(tenant_id)s::text AS tenant_id, %(event)s::text AS event, %(job)s::text AS job,
               %(state)s::text AS state, %(queue)s::text AS queue, %(priority)s::smallint AS priority,
               %(sealed_payload)s::bytea AS sealed_payload, %(max_attempts)s::int AS max_attempts,
               %(run_at)s::timestamptz AS run_at, %(expires_at)s::timestamptz AS expires_at,
               %(parent_id)s::uuid AS parent_id, %(replay_of)s::uuid AS replay_of,
               %(idempotency_key)s::text AS idempotency_key, %(sealed_canvas)s::bytea AS sealed_canvas,
               %(scheduled_for)s::timestamptz AS scheduled_for, %(trace)s::text AS trace, %(key_id)s::text AS key_id,
               %(search_fields)s::text AS search_fields, NULL::text AS schedule{place}) AS new
 WHERE {{durability}}

-- name: insert_run
-- Locks nothing but the new row.
{{insert({{one_run()}})}};

-- name: insert_plain
-- nothing → pending: a run of which nothing is said but what it is, as most that are sent alone. Each value that is given
-- takes time in the sender and here. Its sender waits for the disk itself. Locks nothing but the new row.
INSERT INTO cgk.runs (id, tenant_id, event, state, queue, priority, sealed_payload, key_id, search_fields, run_at,
                      handed_over_at, hand_overs)
SELECT %(id)s::uuid, %(tenant_id)s::text, %(event)s::text, 'pending', %(queue)s::text, %(priority)s::smallint,
       %(sealed_payload)s::bytea, %(key_id)s::text, %(search_fields)s::text, now(), clock_timestamp(), 1
 WHERE set_config('synchronous_commit', 'off', true) IS NOT NULL
ON CONFLICT (id) DO NOTHING;

-- name: insert_in_lane
-- nothing → held: a run that waits until a pass admits it. Its sender tells the lane after the commit.
{{insert_with(, lane_id, rank)}}
  FROM {{one_run(, %(lane_id)s::bigint AS lane_id, %(rank)s::timestamptz AS rank)}}
ON CONFLICT (id) DO NOTHING;

-- name: insert_and_tell
-- The same, and its lane is told at once. Only where nobody waits for the disk before the commit: the lane is locked until
-- then.
WITH inserted AS (
    {{insert_with(, lane_id, rank)}}
      FROM {{one_run(, %(lane_id)s::bigint AS lane_id, %(rank)s::timestamptz AS rank)}}
    ON CONFLICT (id) DO NOTHING
    RETURNING lane_id, rank)
{{told((SELECT lane_id AS id, 1 AS runs, rank FROM inserted))}}
RETURNING l.status;

-- name: insert_single
-- nothing → scheduled, held or pending, unless an open run of the tenant and event has the key. Waits for one that is being
-- made.
{{insert_with(, lane_id, rank, single_key)}}
  FROM {{one_run(, %(lane_id)s::bigint AS lane_id, %(rank)s::timestamptz AS rank, %(single_key)s::text AS single_key)}}
ON CONFLICT DO NOTHING;

-- name: find_single
-- The open run that has the key; or the run itself, which is there already under its id.
SELECT id::text FROM cgk.runs WHERE tenant_id = %(tenant_id)s AND event = %(event)s AND single_key = %(single_key)s
UNION ALL
SELECT id::text FROM cgk.runs WHERE id = %(id)s::uuid;

-- name: leave_single_key
-- running: it is to be cancelled, and another run takes its key.
UPDATE cgk.runs SET single_key = NULL WHERE id = %(id)s::uuid AND single_key IS NOT NULL;

-- fragment: collecting
-- Of a run that waits for further sends. One that was claimed may be scheduled again, and has begun.
(tenant_id, event, merge_key) WHERE state = 'scheduled' AND started_at IS NULL AND merge_key IS NOT NULL

-- name: debounce
-- nothing → scheduled; or the run that waits for further sends becomes this one, and is due later, up to a time. Returns its
-- id, which is another one then.
{{insert_with(, merge_key)}}
  FROM {{one_run(, %(merge_key)s::text AS merge_key)}}
ON CONFLICT {{collecting}} DO UPDATE
   SET run_at = least(EXCLUDED.run_at, runs.created_at + make_interval(secs => %(max_wait)s::float8)),
       expires_at = EXCLUDED.expires_at, sealed_payload = EXCLUDED.sealed_payload, key_id = EXCLUDED.key_id,
       search_fields = EXCLUDED.search_fields, sealed_canvas = EXCLUDED.sealed_canvas, trace = EXCLUDED.trace,
       queue = EXCLUDED.queue, priority = EXCLUDED.priority, max_attempts = EXCLUDED.max_attempts
RETURNING id::text;

-- name: collect
-- nothing → scheduled; or the run that waits for further sends gets so many more. A full one is due, and gets no others.
-- Returns its id, and how many it would have.
{{insert_with(, merge_key, merged)}}
  FROM {{one_run(, %(merge_key)s::text AS merge_key, %(events)s::int AS merged)}}
ON CONFLICT {{collecting}} DO UPDATE
   SET merged = runs.merged + EXCLUDED.merged,
       run_at = CASE WHEN runs.merged + EXCLUDED.merged >= %(size)s THEN least(runs.run_at, now()) ELSE runs.run_at END,
       merge_key = CASE WHEN runs.merged + EXCLUDED.merged >= %(size)s THEN NULL ELSE runs.merge_key END
RETURNING id::text, merged;

-- fragment: given_runs
unnest(%(id)s::uuid[], %(tenant_id)b::text[], %(event)b::text[], %(job)b::text[], %(state)b::text[], %(queue)b::text[],
       %(priority)b::smallint[], %(sealed_payload)b::bytea[], %(max_attempts)b::int[], %(run_at)b::timestamptz[],
       %(expires_at)b::timestamptz[], %(parent_id)s::uuid[], %(replay_of)s::uuid[], %(idempotency_key)b::text[],
       %(sealed_canvas)b::bytea[], %(scheduled_for)b::timestamptz[], %(trace)b::text[], %(key_id)b::text[],
       %(search_fields)b::text[])
    AS given (id, tenant_id, event, job, state, queue, priority, sealed_payload, max_attempts, run_at, expires_at,
              parent_id, replay_of, idempotency_key, sealed_canvas, scheduled_for, trace, key_id, search_fields)

-- name: insert_runs
-- Thousands at once.
{{insert((SELECT given.*, NULL::text AS schedule FROM {{given_runs}}) AS new)}};

-- name: insert_in_lanes
-- The same for several.
{{insert_with(, lane_id, rank)}}
  FROM (SELECT given.*, NULL::text AS schedule, place.lane_id, place.rank
          FROM {{given_runs}}
          JOIN unnest(%(id)s::uuid[], %(lane_id)s::bigint[], %(rank)s::timestamptz[]) AS place (run_id, lane_id, rank)
               ON place.run_id = given.id) AS new
ON CONFLICT (id) DO NOTHING;

-- fragment: copy_with(more)
-- The same without a plan: a third of the cost for many.
COPY cgk.runs ({{new_run}}, run_at, handed_over_at, hand_overs{more}) FROM STDIN (FORMAT BINARY)

-- name: copy_runs
{{copy_with()}};

-- name: copy_in_lanes
{{copy_with(, lane_id, rank)}};

-- name: tenants_of_tick
-- Every tenant that a tick is for; with the reason, where it gets no run.
SELECT t.id AS tenant_id,
       CASE WHEN t.status <> 'active' THEN 'suspended'
            WHEN o.is_off THEN 'switched_off'
            WHEN %(overlap)s = 'skip' AND EXISTS (
                SELECT FROM cgk.runs r WHERE r.schedule = %(schedule)s AND r.tenant_id = t.id) THEN 'overlapping'
       END AS reason
  FROM cgk.tenants t
  LEFT JOIN cgk.schedule_overrides o ON o.schedule = %(schedule)s AND o.tenant_id = t.id
 WHERE (t.source = 'platform') = %(for_platform)s
   AND (%(tenant_id)s::text IS NULL OR t.id = %(tenant_id)s);

-- fragment: start_of_tick
greatest(%(scheduled_for)s::timestamptz + make_interval(secs => coalesce(o.shift_seconds, 0)), %(starts_at)s)
               + cgk.spread_offset(%(schedule)s, g.tenant_id, %(spread)s)

-- name: insert_runs_of_tick
-- One run for each of these tenants, with its idempotency key, in one statement. Those that are due are dispatched after
-- the commit, those with an offset wait in the record. starts_at: when the first of them starts.
WITH candidates AS MATERIALIZED (
    SELECT g.*, cgk.tick_run_id(%(schedule)s, g.tenant_id, %(scheduled_for)s) AS run_id,
           {{start_of_tick}} AS run_at
      FROM unnest(%(tenants)b::text[], %(sealed_payload)b::bytea[], %(payload_hash)b::bytea[], %(key_id)b::text[])
           AS g (tenant_id, sealed_payload, payload_hash, key_id)
      LEFT JOIN cgk.schedule_overrides o ON o.schedule = %(schedule)s AND o.tenant_id = g.tenant_id
), keys AS (
    INSERT INTO cgk.idempotency_keys (tenant_id, event, key, run_id, payload_hash, expires_at)
    SELECT tenant_id, %(event)s, %(key)s, run_id, payload_hash, now() + make_interval(secs => %(key_seconds)s)
      FROM candidates
    ON CONFLICT (tenant_id, event, key) DO NOTHING
    RETURNING run_id
), made AS (
    {{insert((SELECT run_id AS id, tenant_id, %(event)s::text AS event,
                   CASE WHEN run_at <= %(now)s THEN 'pending' ELSE 'scheduled' END AS state, %(queue)s::text AS queue,
                   %(priority)s::smallint AS priority, sealed_payload, run_at,
                   run_at + make_interval(secs => %(ttl)s::float8) AS expires_at,
                   %(key)s::text AS idempotency_key, %(scheduled_for)s::timestamptz AS scheduled_for, key_id,
                   %(search_fields)s::text AS search_fields, %(schedule)s::text AS schedule, {{without_sender}}
              FROM candidates JOIN keys USING (run_id)) AS new)}}
    RETURNING id, tenant_id, state
)
SELECT count(*) AS runs, coalesce(array_agg(id::text) FILTER (WHERE state = 'pending'), '{}') AS due_ids,
       coalesce(array_agg(tenant_id) FILTER (WHERE state = 'pending'), '{}') AS due_tenants
  FROM made;

-- name: runs_of_tick
-- The runs that a tick is to make for these tenants, where rules of the event's job say what becomes of each.
SELECT g.tenant_id, cgk.tick_run_id(%(schedule)s, g.tenant_id, %(scheduled_for)s)::text AS run_id, {{start_of_tick}} AS run_at
  FROM unnest(%(tenants)b::text[]) AS g (tenant_id)
  LEFT JOIN cgk.schedule_overrides o ON o.schedule = %(schedule)s AND o.tenant_id = g.tenant_id;

-- name: runs_of_tenant_schedules
-- The same for schedules that tenants made; not where the last run is open and that is to go on.
SELECT w.nth, cgk.tick_run_id(w.schedule, w.tenant_id, w.scheduled_for)::text AS run_id
  FROM unnest(%(schedule)b::text[], %(tenant_id)b::text[], %(scheduled_for)b::timestamptz[], %(overlap)b::text[])
       WITH ORDINALITY AS w (schedule, tenant_id, scheduled_for, overlap, nth)
 WHERE w.overlap <> 'skip'
    OR NOT EXISTS (SELECT FROM cgk.runs r WHERE r.schedule = w.schedule AND r.tenant_id = w.tenant_id);

-- name: note_schedule
-- Of runs that were sent for a tick.
UPDATE cgk.runs r SET schedule = (%(schedules)b::text[])[{{nth(%(ids)s::uuid[])}}] WHERE r.id = ANY(%(ids)s::uuid[]);

-- name: insert_runs_of_tenant_schedules
-- One run for each due tick of schedules that tenants made, with its idempotency key.
WITH wanted AS MATERIALIZED (
    SELECT w.*, cgk.tick_run_id(w.schedule, w.tenant_id, w.scheduled_for) AS run_id
      FROM unnest(%(schedule)b::text[], %(tenant_id)b::text[], %(event)b::text[], %(sealed_payload)b::bytea[],
                  %(payload_hash)b::bytea[], %(key_id)b::text[], %(search_fields)b::text[],
                  %(scheduled_for)b::timestamptz[], %(key)b::text[], %(overlap)b::text[], %(ttl)b::float8[])
           AS w (schedule, tenant_id, event, sealed_payload, payload_hash, key_id, search_fields, scheduled_for, key,
                 overlap, ttl)
     WHERE w.overlap <> 'skip'
        OR NOT EXISTS (SELECT FROM cgk.runs r WHERE r.schedule = w.schedule AND r.tenant_id = w.tenant_id)
), keys AS (
    INSERT INTO cgk.idempotency_keys (tenant_id, event, key, run_id, payload_hash, expires_at)
    SELECT tenant_id, event, key, run_id, payload_hash, now() + make_interval(secs => %(key_seconds)s)
      FROM wanted
    ON CONFLICT (tenant_id, event, key) DO NOTHING
    RETURNING run_id
)
{{insert((SELECT run_id AS id, tenant_id, event, 'pending' AS state, %(queue)s::text AS queue,
               %(priority)s::smallint AS priority, sealed_payload,
               greatest(scheduled_for, %(now)s) AS run_at,
               greatest(scheduled_for, %(now)s) + make_interval(secs => ttl) AS expires_at,
               key AS idempotency_key, scheduled_for, key_id, search_fields, schedule, {{without_sender}}
          FROM wanted JOIN keys USING (run_id)) AS new)}}
RETURNING id::text, tenant_id, event;

-- fragment: admit(which)
-- held → pending, the first runs of each lane. They are spread over the lane's slots, so that few runs do not share
-- one. The slots by run are an object, and not joined: with old statistics a join would compare each run with each.
WITH picked AS MATERIALIZED (
    SELECT h.id, p.slot + (h.nth - 1) * p.slots / h.found AS slot, clock_timestamp() AS at
      FROM unnest(%(lane)s::bigint[], %(front)s::timestamptz[], %(runs)s::int[], %(slots)s::int[], %(slot)s::bigint[])
           AS p (lane, front, runs, slots, slot), LATERAL (
           SELECT first.id, row_number() OVER () AS nth, count(*) OVER () AS found FROM (
               SELECT id FROM cgk.runs WHERE lane_id = p.lane AND state = 'held' AND rank >= p.front
                ORDER BY rank, id LIMIT p.runs {which}) AS first) AS h
)
UPDATE cgk.runs r
   SET state = 'pending', slot = ((SELECT jsonb_object_agg(id, slot) FROM picked) ->> r.id::text)::bigint,
       admitted_at = (SELECT max(at) FROM picked), handed_over_at = (SELECT max(at) FROM picked), hand_overs = 1
 WHERE r.id = ANY(ARRAY(SELECT id FROM picked)) AND {{is('held')}}
RETURNING {{dispatched}}, r.lane_id, r.slot, r.rank

-- name: admit
{{admit()}};

-- name: admit_free
-- The same without those that somebody has locked.
{{admit(FOR UPDATE SKIP LOCKED)}};

-- name: dispatch_due
-- scheduled, retrying → pending, the most urgent first. A run of a suspended tenant or in a paused queue is held instead.
UPDATE cgk.runs r
   SET state = CASE WHEN {{is_held}} THEN 'held' ELSE 'pending' END, handed_over_at = clock_timestamp(), hand_overs = 1
 WHERE r.id = ANY(ARRAY(
       SELECT id FROM cgk.runs
        WHERE state IN ('scheduled', 'retrying') AND run_at <= now()
        ORDER BY run_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING {{dispatched}};

-- fragment: dispatch_again(which)
-- A pending run stays so, and gets another message.
UPDATE cgk.runs r SET handed_over_at = clock_timestamp(), hand_overs = least(r.hand_overs + 1, 1000)
 WHERE r.id = ANY(ARRAY(
       SELECT id FROM cgk.runs
        WHERE state = 'pending' AND {which} LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
RETURNING {{dispatched}}

-- name: dispatch_unpublished
-- Runs whose publish failed, that a worker gave back or whose tenant or queue was resumed.
{{dispatch_again(handed_over_at IS NULL
     ORDER BY priority DESC, run_at)}};

-- name: dispatch_lost
-- Dispatched before the oldest message that is still in their list, and not claimed: the broker lost them, or a
-- worker keeps them waiting. Dispatched again, at first after `patience`, later after twice that. No longer pause is
-- needed: messages that workers do not take stay in their list, and while the oldest is there nothing counts as lost.
{{dispatch_again(queue = %(queue)s AND priority = %(priority)s
       AND handed_over_at < %(before)s
       AND handed_over_at < now() - make_interval(secs => %(patience)s * CASE WHEN hand_overs > 1 THEN 2 ELSE 1 END)
     ORDER BY handed_over_at)}};

-- name: forget_dispatch
-- The publish failed, so it was no dispatch and is not counted: the dispatcher dispatches these once the broker is back.
UPDATE cgk.runs SET handed_over_at = NULL, hand_overs = greatest(hand_overs - 1, 0)
 WHERE id = ANY(%(ids)s::uuid[]) AND state = 'pending' AND {{gives_way}};

-- fragment: release_held(which)
-- held → pending or scheduled, where the tenant is not suspended and the queue not paused (any more). Jumps in the index
-- from queue to queue, and from tenant to tenant in those that are open: a look costs the same with a million runs held.
-- A tenant that is gone holds nothing: its run fails once it is claimed, and says so. What somebody has locked comes later.
WITH RECURSIVE queues AS (
    (SELECT queue FROM cgk.runs WHERE state = 'held' {which} ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT following.queue FROM queues, LATERAL (
        SELECT queue FROM cgk.runs WHERE state = 'held' {which} AND queue > queues.queue
         ORDER BY queue LIMIT 1) AS following
), parts AS (
    SELECT queue, first.tenant_id FROM queues, LATERAL (
        SELECT r.tenant_id FROM cgk.runs r
         WHERE r.state = 'held' {which} AND r.queue = queues.queue ORDER BY r.tenant_id LIMIT 1) AS first
     WHERE NOT EXISTS (SELECT FROM cgk.paused_queues p WHERE p.queue = queues.queue)
    UNION ALL
    SELECT parts.queue, following.tenant_id FROM parts, LATERAL (
        SELECT r.tenant_id FROM cgk.runs r
         WHERE r.state = 'held' {which} AND r.queue = parts.queue AND r.tenant_id > parts.tenant_id
         ORDER BY r.tenant_id LIMIT 1) AS following
), free AS (
    SELECT held.id FROM parts LEFT JOIN cgk.tenants t ON t.id = parts.tenant_id, LATERAL (
        SELECT r.id FROM cgk.runs r
         WHERE r.state = 'held' {which} AND r.queue = parts.queue AND r.tenant_id = parts.tenant_id
           FOR UPDATE SKIP LOCKED) AS held
     WHERE t.status IS DISTINCT FROM 'suspended'
)
UPDATE cgk.runs r
   SET state = CASE WHEN r.run_at > now() THEN 'scheduled' ELSE 'pending' END, handed_over_at = NULL
 WHERE r.id = ANY(ARRAY(SELECT id FROM free)) AND {{is('held')}} {which}

-- name: release_held
-- Where nobody makes passes: in a database that has not been migrated to the end, which has an index of all that is held.
{{release_held()}};

-- name: release_unlaned
-- The same while passes are made: they admit the runs of lanes.
{{release_held(AND lane_id IS NULL)}};

-- name: hold_in_lane
-- running → held: runs that something limits and that no pass has admitted. The attempt does not count. Returns their places.
UPDATE cgk.runs r
   SET state = 'held', attempt = r.attempt - 1, lane_id = (%(lanes)s::bigint[])[{{nth(%(ids)s::uuid[])}}], rank = r.run_at,
       slot = NULL, admitted_at = NULL, worker_id = NULL, worker_pid = NULL, handed_over_at = NULL, hand_overs = 0
 WHERE r.id = ANY(%(ids)s::uuid[]) AND {{is('running')}} AND r.attempt = (%(attempts)b::int[])[{{nth(%(ids)s::uuid[])}}]
   AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid AND r.cancel_requested_at IS NULL
RETURNING r.lane_id AS lane, r.rank;

-- name: count_running
-- running, and stays so: runs for which a limit is new. They are in other lanes now, which have one gate more. Those without a slot get one for each process: so many, beginning
-- after the last that a pass has given.
WITH first AS MATERIALIZED (
    SELECT setval('cgk.slot_numbers', nextval('cgk.slot_numbers') + max(process)) - max(process) AS slot
      FROM unnest(%(processes)s::int[]) AS process
)
UPDATE cgk.runs r
   SET lane_id = (%(lanes)s::bigint[])[{{nth(%(ids)s::uuid[])}}], rank = coalesce(r.rank, r.run_at), admitted_at = r.handed_over_at,
       slot = CASE WHEN r.slot IS NOT NULL AND r.admitted_at = r.handed_over_at THEN r.slot
                   ELSE (SELECT slot FROM first) + (%(processes)s::int[])[{{nth(%(ids)s::uuid[])}}] END
 WHERE r.id = ANY(%(ids)s::uuid[]) AND {{is('running')}};

-- name: schedule_held
-- held → scheduled: runs of lanes that wait for a worker that has a job for them. They are dispatched again in a second, as
-- those without a lane are released.
UPDATE cgk.runs r SET state = 'scheduled', run_at = now() + interval '1 second'
 WHERE id = ANY(%(ids)s::uuid[]) AND {{is('held')}} AND lane_id IS NOT NULL;

-- name: leave_lanes
-- held: runs of lanes that are gone are released as those that have none.
UPDATE cgk.runs SET lane_id = NULL
 WHERE id = ANY(ARRAY(SELECT id FROM cgk.runs
                       WHERE state = 'held' AND lane_id = ANY(%(lanes)s::bigint[]) FOR UPDATE SKIP LOCKED));

-- name: hold_dispatched
-- pending → held: runs that were marked as dispatched, and wait in lanes because their queue is crowded. Returns their
-- places.
UPDATE cgk.runs r
   SET state = 'held', lane_id = (%(lanes)s::bigint[])[{{nth(%(ids)s::uuid[])}}],
       rank = r.run_at + {{nth(%(ids)s::uuid[])}} * interval '1 microsecond', slot = NULL, admitted_at = NULL,
       handed_over_at = NULL, hand_overs = 0
 WHERE r.id = ANY(%(ids)s::uuid[]) AND {{is('pending')}} AND {{gives_way}}
RETURNING r.lane_id AS lane, r.rank;

-- name: hold_unpublished
-- pending → held: admitted runs that the broker did not take.
UPDATE cgk.runs r SET state = 'held', slot = NULL, admitted_at = NULL, handed_over_at = NULL, hand_overs = 0
 WHERE r.id = ANY(%(ids)s::uuid[]) AND {{is('pending')}} AND r.admitted_at = r.handed_over_at AND {{gives_way}}
RETURNING r.lane_id AS lane, r.rank;

-- fragment: is_barred
-- PostgreSQL crashed, and some worker has not yet said what it is running.
EXISTS (SELECT FROM cgk.workers w LEFT JOIN cgk.presence p ON p.worker_id = w.id WHERE p.worker_id IS NULL)

-- fragment: is_held
r.queue = ANY(ARRAY(SELECT queue FROM cgk.paused_queues))
                              OR EXISTS (SELECT FROM cgk.tenants
                                          WHERE id = r.tenant_id AND status = 'suspended' OFFSET 0)

-- fragment: claim(which)
-- pending → running. What does not come back is a duplicate, cancelled, expired or not due.
-- A run of a suspended tenant, or in a paused queue, is held instead; the pauses are read once.
-- Nothing is joined to the rows that are changed: with old statistics, or none, all that is pending would be read for each
-- packet. Locks the rows of the packet, in id order by the primary key. Fails after a second in which somebody else has
-- one of them locked.
-- Not flushed to disk: what a crash of PostgreSQL makes it forget, the workers assert again (assert_claims) before
-- anybody claims, which the condition on bars sees to.
WITH claimed AS (
    UPDATE cgk.runs r
       SET (state, attempt, worker_id) = (
               SELECT CASE WHEN is_held THEN 'held' ELSE 'running' END,
                      CASE WHEN is_held THEN r.attempt ELSE r.attempt + 1 END,
                      CASE WHEN is_held THEN NULL ELSE %(worker_id)s::uuid END
                 FROM (SELECT {{is_held}} AS is_held OFFSET 0) AS how),
           worker_pid = %(pid)s, started_at = clock_timestamp()
     WHERE {which} AND {{is('pending')}} AND (r.expires_at IS NULL OR r.expires_at > now())
       AND NOT {{is_barred}}
       AND (SELECT set_config('synchronous_commit', 'off', true) || set_config('lock_timeout', '1000', true)) IS NOT NULL
    RETURNING r.*
)
SELECT {{claimed}} FROM claimed r LEFT JOIN cgk.tenants t ON t.id = r.tenant_id

-- name: claim_one
{{claim(r.id = %(id)s::uuid)}};

-- name: claim
{{claim(r.id = ANY(%(ids)s::uuid[]))}};

-- name: claim_free
-- The same without those that somebody has locked.
{{claim(r.id = ANY(ARRAY(SELECT id FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[]) FOR UPDATE SKIP LOCKED)))}};

-- name: claims_barred
SELECT {{is_barred}} AS barred;

-- name: assert_claims
-- Claims that PostgreSQL forgot in a crash while their jobs run on: pending, held → running, as they were. Held where it
-- forgot that they were admitted, too.
UPDATE cgk.runs r
   SET state = 'running', attempt = r.attempt + 1, worker_id = %(worker_id)s::uuid,
       worker_pid = (%(pids)b::int[])[{{nth(%(ids)s::uuid[])}}], started_at = clock_timestamp()
 WHERE r.id = ANY(%(ids)s::uuid[]) AND r.state IN ('pending', 'held')
   AND r.attempt = (%(attempts)b::int[])[{{nth(%(ids)s::uuid[])}}] - 1
RETURNING r.id::text;

-- name: running
-- The runs among these that a worker holds, as `claim` returned them.
SELECT {{claimed}}
  FROM cgk.runs r LEFT JOIN cgk.tenants t ON t.id = r.tenant_id
 WHERE r.id = ANY(%(ids)s::uuid[]) AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid AND {{is('running')}};

-- name: begin_once
-- The attempt begins a job that must not run twice. Waits for the disk, also for the claim before it: what a crash could
-- make PostgreSQL forget, somebody else could begin.
UPDATE cgk.runs r SET begun_once_at = started_at WHERE {{owned}} RETURNING id;

-- name: save_cursor
-- Only the attempt that owns the run may move its cursor.
UPDATE cgk.runs r SET sealed_cursor = %(sealed_cursor)s WHERE {{owned}} RETURNING id;

-- name: take_in
-- The payload of a run, with all of its events. Only the attempt that owns the run may do that.
UPDATE cgk.runs r SET sealed_payload = %(sealed_payload)s WHERE {{owned}} RETURNING id;

-- name: fan_out
-- A run whose event has several jobs becomes the parent of one child each. It stays running, owned by no worker.
UPDATE cgk.runs r SET worker_id = NULL, worker_pid = NULL, children_open = %(children)s WHERE {{owned}} RETURNING id;

-- name: cancel_requested
-- Whether a run that the attempt still owns is to be cancelled.
SELECT 1 FROM cgk.runs r WHERE {{owned}} AND cancel_requested_at IS NOT NULL;

-- name: replace
-- The run is replaced by another signature that takes its id: only the attempt that owns it may do that.
DELETE FROM cgk.runs r WHERE {{owned}} AND cancel_requested_at IS NULL RETURNING id::text;

-- name: release
-- running → retrying (after a failure or a snooze), pending (a packet gives back what it has not begun) or held (for a
-- worker that has a job for it).
-- refund: 1 if the attempt is not used. deferral: why, where no error tells it. A cancelled run is not released.
UPDATE cgk.runs r
   SET (state, attempt, run_at, sealed_payload, job, sealed_errors, errors_left_out, first_failed_at, last_error_code,
        sealed_deferral) = (
           SELECT o.state, r.attempt - o.refund,
                  CASE WHEN o.state = 'retrying' THEN now() + make_interval(secs => o.delay_seconds) ELSE r.run_at END,
                  coalesce(o.payload, r.sealed_payload), coalesce(o.job, r.job),
                  {{errors_with(o.error)}}, {{errors_left_out_with(o.error)}},
                  CASE WHEN o.error IS NULL THEN r.first_failed_at ELSE coalesce(r.first_failed_at, now()) END,
                  coalesce(o.error_code, r.last_error_code), o.deferral
             FROM (SELECT (%(state)b::text[])[nth] AS state, (%(refund)b::int[])[nth] AS refund,
                          (%(delay_seconds)b::float8[])[nth] AS delay_seconds, (%(error)b::bytea[])[nth] AS error,
                          (%(error_code)b::text[])[nth] AS error_code, (%(payload)b::bytea[])[nth] AS payload,
                          (%(job)b::text[])[nth] AS job, (%(deferral)b::bytea[])[nth] AS deferral
                     FROM (SELECT {{nth(%(id)s::uuid[])}} AS nth OFFSET 0) AS place OFFSET 0) AS o),
       worker_id = NULL, worker_pid = NULL, handed_over_at = NULL, hand_overs = 0
 WHERE r.id = ANY(%(id)s::uuid[]) AND {{is('running')}} AND r.attempt = (%(attempt)b::int[])[{{nth(%(id)s::uuid[])}}]
   AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid AND r.cancel_requested_at IS NULL
RETURNING r.id::text;

-- name: suspend
-- running → scheduled: a workflow waits, and no worker holds its run. It is due when the first of its waits is over, if one
-- has an end. deferral: what it waits for. A run that has begun does not expire any more. Deaths count within a leg: in a
-- year a run may well meet some. A cancelled one is not suspended.
UPDATE cgk.runs r
   SET state = 'scheduled',
       run_at = (SELECT min(coalesce(until, now() + make_interval(secs => delay_seconds), 'infinity'))
                   FROM unnest(%(until)b::timestamptz[], %(delay_seconds)b::float8[]) AS wait (until, delay_seconds)),
       job = coalesce(%(job)s, job), sealed_deferral = %(sealed_deferral)s, expires_at = NULL,
       deaths = 0, worker_id = NULL, worker_pid = NULL, handed_over_at = NULL, hand_overs = 0
 WHERE {{owned}} AND cancel_requested_at IS NULL
RETURNING id::text;

-- fragment: wake(which)
-- scheduled, retrying → pending or held: what a workflow waits for has come. A step of it that is tried again later waits
-- on. publishes: whether the caller does, after its commit.
UPDATE cgk.runs r
   SET state = CASE WHEN {{is_held}} THEN 'held' ELSE 'pending' END, run_at = now(),
       handed_over_at = CASE WHEN %(publishes)s THEN clock_timestamp() END, hand_overs = %(publishes)s::int
 WHERE {{waits_for_its_time}} AND {which}
RETURNING {{dispatched}}

-- name: wake_for_mail
-- Whoever brings mail has locked the run before.
{{wake(r.id = %(id)s::uuid AND EXISTS (
       SELECT FROM cgk.steps s
        WHERE s.run_id = r.id AND s.state = 'waiting' AND %(name)s::text = ANY(s.awaits)))}};

-- name: wake_at_once
-- Of a run that has just been left: its mail came before. In the transaction of `suspend` or `release`, after it: so it
-- sees the mail of everybody who had locked the run before, and all others see that the run waits.
{{wake(r.id = %(id)s::uuid AND EXISTS (
       SELECT FROM cgk.mail m
        WHERE m.run_id = r.id AND m.taken_at IS NULL AND m.name = ANY(%(names)s::text[])))}};

-- name: wake_parents
-- Counts the ends of child runs off the steps that wait for them, and wakes the runs whose step waits for no further one.
-- Whoever brings the ends has locked the parents before. The steps of one that is on are its attempt's: what has come
-- by then is counted when it is left.
WITH ended AS (
    SELECT s.run_id, s.name, s.nth, count(*)::int AS ends, bool_or(e.state <> 'completed') AS is_failure
      FROM unnest(%(parents)s::uuid[], %(mails)b::text[], %(states)b::text[]) AS e (run_id, mail, state), LATERAL (
           SELECT FROM cgk.runs r WHERE r.id = e.run_id AND {{waits_for_its_time}} OFFSET 0) AS p, LATERAL (
           SELECT run_id, name, nth FROM cgk.steps
            WHERE run_id = e.run_id AND state = 'waiting' AND e.mail = ANY(awaits) OFFSET 0) AS s
     GROUP BY s.run_id, s.name, s.nth
), counted AS (
    UPDATE cgk.steps s
       SET awaiting = CASE WHEN s.stops_at_failure AND ended.is_failure THEN 0 ELSE s.awaiting - ended.ends END
      FROM ended WHERE s.run_id = ended.run_id AND s.name = ended.name AND s.nth = ended.nth
    RETURNING s.run_id, s.awaiting
)
{{wake(r.id = ANY(ARRAY(SELECT run_id FROM counted WHERE awaiting <= 0)))}};

-- name: wake_parent_at_once
-- Of a run that has just been left, as `wake_at_once`: how many of the child runs that its steps wait for have not ended.
WITH came AS (
    SELECT s.name, s.nth, w.stops_at_failure, count(m.run_id)::int AS ends,
           coalesce(bool_or(m.key <> 'completed'), false) AS is_failure
      FROM unnest(%(name)b::text[], %(nth)b::int[], %(stops_at_failure)b::bool[]) AS w (name, nth, stops_at_failure)
      JOIN cgk.steps s ON s.run_id = %(id)s::uuid AND s.name = w.name AND s.nth = w.nth
      LEFT JOIN cgk.mail m ON m.run_id = s.run_id AND m.name = ANY(s.awaits) AND m.taken_at IS NULL
     GROUP BY s.name, s.nth, w.stops_at_failure
), counted AS (
    UPDATE cgk.steps s
       SET stops_at_failure = came.stops_at_failure,
           awaiting = CASE WHEN came.stops_at_failure AND came.is_failure THEN 0
                           ELSE cardinality(s.awaits) - came.ends END
      FROM came WHERE s.run_id = %(id)s::uuid AND s.name = came.name AND s.nth = came.nth
    RETURNING s.awaiting
)
{{wake(r.id = %(id)s::uuid AND EXISTS (SELECT FROM counted WHERE counted.awaiting <= 0))}};

-- name: undo
-- running → pending: a workflow that failed for good, or is cancelled, undoes what it has done before it ends.
UPDATE cgk.runs r
   SET state = 'pending', job = coalesce(%(job)s, job), cancel_requested_at = NULL, run_at = now(), deaths = 0,
       worker_id = NULL, worker_pid = NULL, handed_over_at = clock_timestamp(), hand_overs = 1
 WHERE {{owned}}
RETURNING {{dispatched}};

-- name: has_steps
-- Whether there is such a table: an upgrade may be under way.
SELECT to_regclass('cgk.steps') IS NOT NULL AS yes;

-- name: with_something_to_undo
-- Of these runs and their children those that no worker holds and that have something to undo, locked.
SELECT r.id::text, r.tenant_id, r.key_id
  FROM (SELECT id FROM {{with_children(SELECT id FROM unnest(%(ids)s::uuid[]) AS given (id))}} ORDER BY id) AS family, LATERAL (
       SELECT id, tenant_id, key_id FROM cgk.runs
        WHERE id = family.id AND state <> 'running'
          AND EXISTS (SELECT FROM cgk.steps s WHERE s.run_id = runs.id AND s.name = '$compensates') FOR UPDATE) AS r;

-- name: wake_these
-- Runs that are to undo what they have done; and in tests, runs whose time is let come.
{{wake(r.id = ANY(%(ids)s::uuid[]))}};

-- name: forget_cancel_request
-- Of runs that are undone, which answers it.
UPDATE cgk.runs SET cancel_requested_at = NULL WHERE id = ANY(%(ids)s::uuid[]) AND cancel_requested_at IS NOT NULL;

-- name: runs_to_reclaim
-- Runs of a worker that nobody works on any more, locked until they are reclaimed. ids: NULL for all of them. errors: the
-- last two. begun_once: whether its job has begun and must not run twice. Before the last step of an upgrade there is no
-- such column: as JSON the row is read all the same. What somebody has locked is left for the next look.
SELECT id::text, tenant_id, attempt, started_at, key_id,
       sealed_errors[greatest(cardinality(sealed_errors) - 1, 1):] AS errors,
       coalesce((to_jsonb(r) ->> 'begun_once_at')::timestamptz = started_at, false) AS begun_once, now() AS now
  FROM unnest(ARRAY[%(worker_id)s::uuid]) AS of (worker), LATERAL (
       SELECT * FROM cgk.runs
        WHERE {{held_by(of.worker)}} AND (%(ids)s::uuid[] IS NULL OR id = ANY(%(ids)s::uuid[])) FOR UPDATE SKIP LOCKED) AS r;

-- name: reclaim
-- running → pending. Its caller closes those that were cancelled meanwhile, died too often, or came back too often without
-- an end. error: why, for the record, or NULL. deaths: 0 where no process died of them; then the attempt is not used.
UPDATE cgk.runs r
   SET state = 'pending', deaths = r.deaths + %(deaths)s, worker_id = NULL, worker_pid = NULL,
       attempt = r.attempt - CASE WHEN %(deaths)s = 0 THEN 1 ELSE 0 END,
       handed_over_at = NULL, hand_overs = 0,
       (sealed_errors, errors_left_out, first_failed_at) = (
           SELECT {{errors_with(lost.error)}}, {{errors_left_out_with(lost.error)}},
                  CASE WHEN lost.error IS NULL THEN r.first_failed_at ELSE coalesce(r.first_failed_at, now()) END
             FROM (SELECT (%(errors)b::bytea[])[{{nth(%(ids)s::uuid[])}}] AS error OFFSET 0) AS lost),
       last_error_code = coalesce(%(error_code)s::text, r.last_error_code)
 WHERE r.id = ANY(%(ids)s::uuid[]) AND {{is('running')}}
RETURNING r.id::text, r.deaths, r.cancel_requested_at IS NOT NULL AS cancel_requested;

-- name: count_down_children
-- Counts down the open children of parents that were made of events with several jobs. A workflow is the parent of what it
-- has invoked, too, and has none to count here: its children are runs of their own, whose ends are brought to it.
UPDATE cgk.runs r
   SET children_open = r.children_open - ((
           SELECT jsonb_object_agg(id, runs) FROM (
                  SELECT id, count(*) AS runs FROM unnest(%(parents)s::uuid[]) AS p (id) GROUP BY id) AS ends)
           ->> r.id::text)::int
 WHERE r.id = ANY(%(parents)s::uuid[]) AND {{is('running')}} AND r.children_open > 0
RETURNING r.id::text, r.tenant_id, r.key_id, r.children_open, r.sealed_errors[cardinality(r.sealed_errors)] AS last_error;

-- fragment: children
-- By their index: in a join PostgreSQL may read all runs instead.
LATERAL (SELECT id FROM cgk.runs WHERE parent_id = family.id OFFSET 0) AS child

-- fragment: with_children(first)
-- Runs, their children, and theirs.
(WITH RECURSIVE family AS (
    {first}
    UNION
    SELECT child.id FROM family, {{children}}
 ) SELECT id FROM family) AS family

-- fragment: these_runs
-- What to cancel. Not what undoes what it has done.
SELECT id FROM {{with_children(SELECT id FROM unnest(%(ids)s::uuid[]) AS given (id))}} WHERE NOT id = ANY(%(undone)s::uuid[])

-- fragment: open_of_schedule(more)
-- A schedule's open runs, of active tenants, or of one of them.
SELECT old.id{more} FROM cgk.runs old JOIN cgk.tenants t ON t.id = old.tenant_id
     WHERE old.schedule = %(schedule)s AND t.status = 'active'
       AND (%(tenant_id)s::text IS NULL OR old.tenant_id = %(tenant_id)s)

-- fragment: runs_of_schedule
SELECT id FROM {{with_children({{open_of_schedule()}})}}

-- fragment: lock_family(first)
-- Runs, their children, and theirs. Children first, as whoever ends a child locks it before its parent. A statement that
-- cancels them locks them in any order: this comes before it.
SELECT r.id::text FROM (
    WITH RECURSIVE family AS (
        {first}
        UNION
        SELECT child.id, family.depth + 1 FROM family, {{children}}
    ) SELECT id FROM family ORDER BY depth DESC, id) AS family, LATERAL (
    SELECT id FROM cgk.runs WHERE id = family.id FOR UPDATE) AS r

-- name: lock_to_cancel
{{lock_family(SELECT id, 0 AS depth FROM unnest(%(ids)s::uuid[]) AS given (id))}};

-- name: lock_schedule_to_cancel
{{lock_family({{open_of_schedule(, 0 AS depth)}})}};

-- fragment: interrupt(at)
-- A run that a worker holds stays running: the worker sees within a second that its time has come, and interrupts the job.
UPDATE cgk.runs r SET cancel_requested_at = least(r.cancel_requested_at, {at})

-- fragment: of_running(which)
WHERE r.id = ANY(ARRAY({which})) AND {{is('running')}} AND r.worker_id IS NOT NULL
RETURNING r.id::text

-- name: request_cancel
{{interrupt(now())}} {{of_running({{these_runs}})}};

-- name: request_cancel_after_its_attempt
-- Runs whose attempt may end: only if that does not close them, they are cancelled.
{{interrupt('infinity'::timestamptz)}} {{of_running({{these_runs}})}};

-- name: request_cancel_of_schedule
{{interrupt(now())}} {{of_running({{runs_of_schedule}})}};

-- fragment: close(gone)
-- open → closed: moves runs into the history. `gone` says which runs r those are, and returns with each how it ends. The
-- condition on their state is part of it, so that a run that has moved on meanwhile stays.
{{close_with(gone AS (
    DELETE FROM cgk.runs r {gone}
))}}

-- fragment: close_with(gone)
WITH {gone}
{{kept_gone}}

-- fragment: kept_gone
-- Runs that are gone from cgk.runs, in the history.
INSERT INTO cgk.run_history ({{kept}}, started_at, job, state, cancel_requested_at, sealed_errors, errors_left_out, closed_at,
                             sealed_result, error_code, error_fingerprint)
SELECT {{kept}}, coalesce(greatest(started_at, clock_timestamp() - make_interval(secs => took)), started_at),
       coalesce(closed_by, job), closed_as, coalesce(cancelled_at, nullif(cancel_requested_at, 'infinity')),
       {{errors_with(error)}}, {{errors_left_out_with(error)}}, clock_timestamp(), result, error_code, fingerprint
  FROM gone

-- fragment: alike(how)
-- All of them end alike, and no job says how.
r.*, {how}, NULL::text AS closed_by, NULL::bytea AS result, NULL::bytea AS error, NULL::text AS fingerprint,
NULL::float8 AS took

-- fragment: of_one
WHERE {{owned}} AND {{durability}}
    RETURNING r.*, %(state)s::text AS closed_as, %(error_code)s::text AS error_code, NULL::timestamptz AS cancelled_at,
              %(job)s::text AS closed_by, %(result)s::bytea AS result, %(error)s::bytea AS error,
              %(fingerprint)s::text AS fingerprint, %(took)s::float8 AS took

-- name: finish_one
-- running → completed, failed, cancelled or unhandled, only where the attempt still owns the run. Not flushed to disk on
-- its own: a finish that PostgreSQL forgets in a crash means running again, and the worker notices that it runs nothing
-- of the kind.
{{close({{of_one}})}}
RETURNING id::text, parent_id::text, state;

-- name: finish_one_or_fail
-- The same, for whoever sends the COMMIT with it: an error (division_by_zero) where the attempt does not own the run.
WITH gone AS (
    DELETE FROM cgk.runs r {{of_one}}
), closed AS (
    {{kept_gone}}
    RETURNING 1
)
SELECT 1 / count(*) AS closed FROM closed;

-- fragment: ended
-- The runs of a packet that their attempts hold, all at the same one. How they ended is joined to those that are gone, and not
-- to those that are to go: beside a table that is changed PostgreSQL copies what it is joined to as a whole, for each pair
-- that it compares. Fails after a second in which somebody else has one of them locked.
ended AS (
    DELETE FROM cgk.runs r
     WHERE r.id = ANY(%(id)s::uuid[]) AND {{is('running')}} AND r.attempt = %(attempt)s
       AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid AND {{durability}} AND {{gives_way}}
    RETURNING r.*
)

-- name: finish
-- The same for those of a packet that are at the same attempt.
{{close_with({{ended}}, gone AS (
    SELECT ended.*, o.closed_as, o.error_code, NULL::timestamptz AS cancelled_at, o.closed_by, o.result, o.error,
           o.fingerprint, o.took
      FROM ended JOIN unnest(%(id)s::uuid[], %(job)b::text[], %(state)b::text[], %(result)b::bytea[], %(error)b::bytea[],
                             %(error_code)b::text[], %(fingerprint)b::text[], %(took)b::float8[])
                      AS o (id, closed_by, closed_as, result, error, error_code, fingerprint, took) USING (id)
))}}
RETURNING id::text, parent_id::text, state;

-- name: finish_completed
-- The same for those that one job has completed. Nobody is told which of them were still this worker's.
{{close_with({{ended}}, gone AS (
    SELECT ended.*, 'completed' AS closed_as, NULL::text AS error_code, NULL::timestamptz AS cancelled_at,
           %(job)s::text AS closed_by, o.result, NULL::bytea AS error, NULL::text AS fingerprint, o.took
      FROM ended JOIN unnest(%(id)s::uuid[], %(result)b::bytea[], %(took)b::float8[]) AS o (id, result, took) USING (id)
))}};

-- name: ends_of_children
SELECT job, tenant_id, key_id, state, error_code, sealed_result FROM cgk.run_history WHERE parent_id = %(id)s::uuid;

-- name: close_parent
-- running → completed, failed or cancelled, once no child is open. Its caller has read how the children ended.
{{close(WHERE r.id = %(id)s::uuid AND {{is('running')}} AND r.children_open <= 0
    RETURNING r.*, %(state)s::text AS closed_as, %(error_code)s::text AS error_code, NULL::timestamptz AS cancelled_at,
              NULL::text AS closed_by, %(result)s::bytea AS result, NULL::bytea AS error,
              %(fingerprint)s::text AS fingerprint, NULL::float8 AS took)}}
RETURNING {{closed}};

-- fragment: not_held(which)
-- Runs that no worker holds. A parent of child runs counts as such: its children end too.
r.id = ANY(ARRAY({which})) AND (r.state <> 'running' OR r.worker_id IS NULL)

-- fragment: cancelled(error_code)
RETURNING {{alike('cancelled' AS closed_as, {error_code} AS error_code, clock_timestamp() AS cancelled_at)}}

-- name: cancel
-- open → cancelled, at once.
{{close(WHERE {{not_held({{these_runs}})}} {{cancelled(NULL::text)}})}}
RETURNING {{closed}};

-- name: cancel_of_schedule
{{close(WHERE {{not_held({{runs_of_schedule}})}} {{cancelled('OVERLAP')}})}}
RETURNING {{closed}};

-- name: cancel_waiting
-- open → cancelled, a batch: what waited in these queues at a moment, of one tenant or of all. What a worker claims now
-- runs.
{{close(WHERE r.id = ANY(ARRAY(
        SELECT id FROM cgk.runs
         WHERE queue = ANY(%(queues)s::text[]) AND state <> 'running' AND created_at <= %(before)s
           AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
         LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING {{alike('cancelled' AS closed_as, NULL::text AS error_code, clock_timestamp() AS cancelled_at)}})}}
RETURNING {{closed}};

-- name: cancel_paused
-- held → cancelled, a batch: what waits under a pause that says so. What has something to undo stays held.
{{close(WHERE r.id = ANY(ARRAY(
        SELECT held.id FROM cgk.pauses p
          JOIN cgk.lanes l ON (p.queue IS NULL OR l.queue = p.queue) AND (p.tenant_id IS NULL OR l.tenant_id = p.tenant_id)
                          AND (p.event IS NULL OR l.event = p.event), LATERAL (
               SELECT id FROM cgk.runs
                WHERE lane_id = l.id AND state = 'held'
                  AND NOT EXISTS (SELECT FROM cgk.steps s WHERE s.run_id = runs.id AND s.name = '$compensates')
                ORDER BY rank LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS held
         WHERE p.mode = 'drop' LIMIT %(limit)s))
    RETURNING {{alike('cancelled' AS closed_as, 'PAUSED' AS error_code, clock_timestamp() AS cancelled_at)}})}}
RETURNING {{closed}};

-- name: expire
-- open → expired: their time to live passed before they started.
{{close(WHERE r.id = ANY(ARRAY(
        SELECT id FROM cgk.runs WHERE expires_at <= now() AND state <> 'running'
         ORDER BY expires_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED))
    RETURNING {{alike('expired' AS closed_as, 'EXPIRED' AS error_code, NULL::timestamptz AS cancelled_at)}})}}
RETURNING {{closed}};

-- name: close_waiting
-- open → failed or cancelled: poison pills, runs that were cancelled while their process died, and runs that are not to be
-- made at all because what comes before them failed. error: NULL, or one more for their record.
{{close(WHERE r.id = ANY(%(ids)s::uuid[]) AND r.state <> 'running'
    RETURNING r.*, %(state)s::text AS closed_as, %(error_code)s::text AS error_code, NULL::timestamptz AS cancelled_at,
              NULL::text AS closed_by, NULL::bytea AS result, %(error)s::bytea AS error,
              %(fingerprint)s::text AS fingerprint, NULL::float8 AS took)}}
RETURNING {{closed}};
