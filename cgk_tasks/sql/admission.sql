-- Admission: lanes of held runs, and the pass over them that says which may start. cgk_tasks/admission/ calls these.
-- What admits runs is in transitions.sql.
--
-- Where rows are joined to lists, `= ANY(ARRAY(…))` stands beside the join, or LATERAL and LIMIT 1 in its place, and
-- EXISTS has OFFSET 0: without it PostgreSQL reads all of the table.

-- fragment: is_on(flow_version)
-- Whether the tables and indexes are there, and every living worker knows them: one of an older release would let runs
-- through, and count them elsewhere. timeout: seconds of silence after which a worker counts as dead. flow_version: grows
-- with each change of what is set on record for tenants, jobs and pauses.
SELECT to_regclass('cgk.passes') IS NOT NULL AS has_tables,
       (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relnamespace = to_regnamespace('cgk') AND c.relname = ANY(%(indexes)b::text[]) AND i.indisvalid)
           = cardinality(%(indexes)b::text[]) AS has_indexes,
       NOT EXISTS (SELECT FROM cgk.workers WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s)
                      AND coalesce(revision, '') < '0017') AS all_know,
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('cgk.passes') AND attname = 'charged_at')
           AND NOT EXISTS (SELECT FROM cgk.workers WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s)
                              AND coalesce(revision, '') < '0019') AS all_are_fair,
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('cgk.job_events') AND attname = 'limits')
           AS has_limits,
       EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass('cgk.job_events') AND attname = 'send_rules')
           AS has_send_rules,
       (SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
         WHERE c.relnamespace = to_regnamespace('cgk') AND c.relname IN ('runs_merging', 'runs_single') AND i.indisvalid) = 2
           AND NOT EXISTS (SELECT FROM cgk.workers WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s)
                              AND coalesce(revision, '') < '0022') AS all_merge,
       to_regclass('cgk.guards') IS NOT NULL AS has_guards,
       {flow_version} AS flow_version

-- name: is_on
{{is_on((SELECT version FROM cgk.flow_changes))}};

-- name: is_on_before_plans
-- The same in a database that has not been migrated to the end yet.
{{is_on(NULL::bigint)}};

-- name: note_rule
-- What the code declares. Returns the rule if it is new, or declared otherwise than before.
INSERT INTO cgk.rules AS known (name, job, event, kind, per, key_field, declared)
VALUES (%(name)s, %(job)s, %(event)s, %(kind)s, %(per)s, %(key_field)s, %(declared)s::json)
ON CONFLICT (name) DO UPDATE SET event = EXCLUDED.event, declared = EXCLUDED.declared, changed_at = now()
 WHERE known.declared::text <> EXCLUDED.declared::text OR known.event <> EXCLUDED.event
RETURNING id;

-- name: find_rule
SELECT id FROM cgk.rules WHERE name = %(name)s;

-- name: note_set_rule
-- A rule that no code declares: of a tenant, or set for a job.
INSERT INTO cgk.rules (name, job, event, kind, per, key_field, declared)
VALUES (%(name)s, %(job)s, %(event)s, %(kind)s, %(per)s, %(key_field)s, '{}')
ON CONFLICT (name) DO NOTHING;

-- fragment: numbers
-- Of a gate `wanted` of the rule `r`: what is set for it, else what its tenant may have in all, else what is declared.
CASE WHEN o.rule IS NOT NULL THEN o.at_once WHEN r.job <> '' THEN wanted.at_once WHEN r.kind = 'at_once' THEN t.at_once END
           AS at_once,
       CASE WHEN o.rule IS NOT NULL THEN o.lend_to WHEN r.job <> '' THEN wanted.lend_to END AS lend_to,
       CASE WHEN o.rule IS NOT NULL THEN o.rate WHEN r.job <> '' THEN wanted.rate WHEN r.kind = 'throttle' THEN t.starts END
           AS rate,
       CASE WHEN o.rule IS NOT NULL THEN o.period WHEN r.job <> '' THEN wanted.period WHEN r.kind = 'throttle' THEN t.period END
           AS period,
       CASE WHEN o.rule IS NOT NULL THEN o.burst WHEN r.job <> '' THEN wanted.burst WHEN r.kind = 'throttle' THEN t.burst END
           AS burst

-- fragment: set_for_it
-- A limit that is set for a tenant comes before one that is set for all.
JOIN cgk.rules r ON r.id = wanted.rule_id
  LEFT JOIN LATERAL (
       SELECT * FROM cgk.job_limits j WHERE j.rule = r.name AND j.tenant_id IN ('', split_part(wanted.key, ':', 1))
        ORDER BY j.tenant_id DESC LIMIT 1) AS o ON true
  LEFT JOIN cgk.tenant_limits_in_force t ON r.job = '' AND t.tenant_id = wanted.key

-- fragment: renumber(which)
-- Gates get the numbers that are in force. One that is closed is looked at at once. What a bucket is ahead counts as so many
-- starts at the new rate.
UPDATE cgk.gates g
   SET at_once = n.at_once, lend_to = n.lend_to, rate = n.rate, period = n.period, burst = n.burst,
       tat = CASE WHEN num_nulls(g.rate, n.rate) > 0 THEN '2000-01-01Z'
                  ELSE clock_timestamp() + greatest(g.tat - clock_timestamp(), interval '0')
                                           * (n.period / n.rate / (g.period / g.rate)) END,
       opens_at = CASE WHEN g.opens_at IS NOT NULL THEN clock_timestamp() END
  FROM (SELECT wanted.id, {{numbers}}
          FROM (SELECT g.id, g.rule_id, g.key, (r.declared ->> 'at_once')::int AS at_once,
                       (r.declared ->> 'lend_to')::int AS lend_to, (r.declared ->> 'rate')::int AS rate,
                       (r.declared ->> 'period')::float8 AS period, (r.declared ->> 'burst')::int AS burst
                  FROM cgk.gates g JOIN cgk.rules r ON r.id = g.rule_id
                 WHERE {which}) AS wanted {{set_for_it}}) AS n
 WHERE g.id = n.id
   AND (g.at_once, g.lend_to, g.rate, g.period, g.burst) IS DISTINCT FROM (n.at_once, n.lend_to, n.rate, n.period, n.burst)

-- name: renumber_gates
-- Of a rule whose numbers have changed.
{{renumber(r.name = %(name)s)}};

-- name: renumber_gates_of_tenants
{{renumber(r.job = '' AND g.key = ANY(%(tenants)b::text[]))}};

-- name: note_processes
-- How many runs a worker executes at once.
UPDATE cgk.workers SET processes = %(processes)s WHERE id = %(id)s::uuid AND processes IS DISTINCT FROM %(processes)s;

-- name: admitted
-- Of these runs, those whose dispatch a pass has admitted, with the gates that they have passed. One that waited only because
-- its queue was crowded has passed none.
SELECT r.id::text, l.gates
  FROM cgk.runs r, LATERAL (SELECT gates FROM cgk.lanes WHERE id = r.lane_id OFFSET 0) AS l
 WHERE r.id = ANY(%(ids)s::uuid[]) AND {{has_slot}};

-- name: held_again
-- Of these runs, those that a claim has left held in their lanes, which do not know it yet.
SELECT lane_id AS lane, count(*)::int AS runs, min(rank) AS rank FROM cgk.runs r
 WHERE id = ANY(%(ids)s::uuid[]) AND {{is('held')}} AND lane_id IS NOT NULL GROUP BY lane_id;

-- name: lanes_wait
-- Whether a pass finds lanes to look at, or gates whose time has come; or only full gates, where a place may be free.
SELECT EXISTS (SELECT FROM cgk.lanes WHERE status = 'new') OR EXISTS (SELECT FROM cgk.shares WHERE open_lanes > 0)
           OR EXISTS (SELECT FROM cgk.gates WHERE opens_at <= clock_timestamp()) AS yes,
       EXISTS (SELECT FROM cgk.lanes WHERE status = 'full') AS full_gates;

-- name: find_gates
-- rule_id, key: of each gate that is wanted.
SELECT g.id, g.rule_id, g.key FROM unnest(%(rule_id)s::bigint[], %(key)b::text[]) AS wanted (rule_id, key),
       LATERAL (SELECT id, rule_id, key FROM cgk.gates g WHERE g.rule_id = wanted.rule_id AND g.key = wanted.key OFFSET 0) g;

-- name: make_gates
-- With the numbers that are in force; those given are declared. What another process has made meanwhile stays as it is. In one
-- order, so that two cannot lock each other out.
INSERT INTO cgk.gates (rule_id, key, at_once, lend_to, rate, period, burst)
SELECT wanted.rule_id, wanted.key, {{numbers}}
  FROM unnest(%(rule_id)s::bigint[], %(key)b::text[], %(at_once)s::int[], %(lend_to)s::int[], %(rate)s::int[],
              %(period)s::float8[], %(burst)s::int[])
           AS wanted (rule_id, key, at_once, lend_to, rate, period, burst) {{set_for_it}}
 ORDER BY wanted.rule_id, wanted.key
ON CONFLICT (rule_id, key) DO NOTHING;

-- fragment: wanted_lanes
-- gates: each lane's as PostgreSQL writes an array.
unnest(%(queue)b::text[], %(tenant_id)b::text[], %(event)b::text[], %(priority)s::smallint[], %(alone)s::bool[],
       %(gates)b::text[]) WITH ORDINALITY
    AS wanted (queue, tenant_id, event, priority, alone, gates, place)

-- fragment: its_share
-- By its index: with statistics of a time with few lanes, a join would compare each share with each that is wanted.
LATERAL (SELECT id FROM cgk.shares WHERE queue = wanted.queue AND tenant_id = wanted.tenant_id OFFSET 0) AS s

-- name: find_lanes
SELECT wanted.place, l.id FROM {{wanted_lanes}}, {{its_share}}, LATERAL (
    SELECT id FROM cgk.lanes
     WHERE share_id = s.id AND event = wanted.event AND priority = wanted.priority AND alone = wanted.alone
       AND gates = wanted.gates::bigint[] OFFSET 0) AS l;

-- name: touch_lanes
-- In one order, so that two cannot lock each other out.
UPDATE cgk.lanes SET used_at = now()
 WHERE id = ANY(ARRAY(SELECT id FROM cgk.lanes WHERE id = ANY(%(lanes)s::bigint[]) AND used_at < now() - interval '1 hour'
                       ORDER BY id FOR UPDATE));

-- name: make_shares
INSERT INTO cgk.shares (queue, tenant_id, weight)
SELECT DISTINCT wanted.queue, wanted.tenant_id, coalesce(t.weight, 1)
  FROM {{wanted_lanes}} LEFT JOIN cgk.tenant_limits_in_force t ON t.tenant_id = wanted.tenant_id
 ORDER BY wanted.queue, wanted.tenant_id
ON CONFLICT (queue, tenant_id) DO NOTHING;

-- name: make_lanes
INSERT INTO cgk.lanes (share_id, queue, tenant_id, event, priority, alone, gates)
SELECT s.id, wanted.queue, wanted.tenant_id, wanted.event, wanted.priority, wanted.alone, wanted.gates::bigint[]
  FROM {{wanted_lanes}}, {{its_share}}
 ORDER BY s.id, wanted.event, wanted.priority, wanted.alone, wanted.gates
ON CONFLICT (share_id, event, priority, alone, gates) DO NOTHING;

-- name: tell_one
{{told((SELECT %(lane)s::bigint AS id, %(runs)s::int AS runs, %(rank)s::timestamptz AS rank,
               set_config('synchronous_commit', 'off', true)))}}
RETURNING l.id, l.status;

-- name: tell
-- Returns the lanes that are there. In one order, as above. What they are told is looked up in an object: joined, each of a
-- bulk send's 10,000 lanes would be compared with each.
UPDATE cgk.lanes l
   SET (arrivals, front, urgency, status) = (
       SELECT {{as_told}}
         FROM (SELECT (%(runs)s::int[])[nth] AS runs, (%(rank)s::timestamptz[])[nth] AS rank
                 FROM (SELECT ((SELECT jsonb_object_agg(id, nth)
                                  FROM unnest(%(lane)s::bigint[]) WITH ORDINALITY AS given (id, nth))
                               ->> l.id::text)::int AS nth OFFSET 0) AS place OFFSET 0) AS told)
 WHERE l.id = ANY(ARRAY(SELECT id FROM cgk.lanes WHERE id = ANY(%(lane)s::bigint[]) ORDER BY id FOR UPDATE))
   AND (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL
RETURNING l.id, l.status;

-- fragment: not_for_long
-- A process that hangs amid its pass would stop all others: PostgreSQL ends its connection.
set_config('idle_in_transaction_session_timeout', '5s', true)

-- fragment: gives_way
-- Whoever has locked a run may keep it for hours, and all passes would wait with this one.
set_config('lock_timeout', '500ms', true)

-- fragment: by_index
-- A plan that PostgreSQL made while the tables were nearly empty, and keeps, must not read them from end to end. Nor may it
-- collect and sort what it expects to be one row, where an index has it in order: so it would for each step of a walk from
-- lane to lane, once the tables were nearly empty and keep their pages. JIT would take the cost of the few scans that there are
-- for real, before version 18.
set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), set_config('jit', 'off', true)

-- name: lock
-- One pass at a time. A statement of its own: the next one's snapshot has what the holder before has committed.
SELECT pg_advisory_xact_lock(4216201003) IS NULL AS no, set_config('synchronous_commit', 'off', true), {{not_for_long}},
       {{gives_way}}, {{by_index}};

-- name: try_lock
-- The same, if nobody makes a pass.
SELECT pg_try_advisory_xact_lock(4216201003) AS yes, set_config('synchronous_commit', 'off', true), {{not_for_long}},
       {{gives_way}}, {{by_index}};

-- name: lock_out_passes
-- For those who lock several lanes: passes lock them in an order of their own. And for those who make lanes, so that no
-- gate of theirs is pruned meanwhile.
SELECT pg_advisory_xact_lock_shared(4216201003) IS NULL AS no, {{not_for_long}};

-- name: begin
-- number: of this pass, and a slot that nobody gets. are_only_open: whether no lane is new or waits at a gate, and no gate's
-- time has come.
SELECT nextval('cgk.slot_numbers') AS number, extract(epoch FROM clock_timestamp())::float8 AS now,
       NOT EXISTS (SELECT FROM cgk.lanes WHERE status = 'new') AND NOT EXISTS (SELECT FROM cgk.lanes WHERE status = 'full')
           AND NOT EXISTS (SELECT FROM cgk.gates WHERE opens_at <= clock_timestamp()) AS are_only_open;

-- name: noted
SELECT frontier, known, clocks FROM cgk.passes;

-- name: note
UPDATE cgk.passes SET frontier = %(frontier)s, known = %(known)s::bigint[], clocks = %(clocks)s::json, noted_at = now();

-- fragment: is_place
-- Where a slot is compared: it is not asked again whether there is one, as `is_slot` does. With statistics of a time in which no run
-- had any, PostgreSQL would expect more of the index than of this condition, and sort all that follow to get the first. The
-- parent of child runs, which waits for them, takes none; of a CASE the planner takes half to match.
admitted_at = handed_over_at AND state IN ('pending', 'running')
          AND CASE WHEN children_open = 0 THEN true ELSE false END

-- name: usage
-- The slots that are held, with the gates at which they count: from the frontier on by jumping from slot to slot in
-- their index, before it those that are known.
WITH RECURSIVE fresh AS (
    (SELECT slot, lane_id FROM cgk.runs WHERE {{is_place}} AND slot >= %(frontier)s ORDER BY slot, lane_id LIMIT 1)
    UNION ALL
    SELECT following.slot, following.lane_id FROM fresh, LATERAL (
        SELECT slot, lane_id FROM cgk.runs WHERE {{is_place}} AND slot > fresh.slot
         ORDER BY slot, lane_id LIMIT 1) AS following
), taken AS (
    SELECT slot, lane_id FROM fresh
    UNION ALL
    SELECT known.slot, r.lane_id FROM unnest(%(known)s::bigint[]) AS known (slot), LATERAL (
        SELECT lane_id FROM cgk.runs WHERE {{is_place}} AND slot = known.slot LIMIT 1) AS r
)
SELECT taken.slot, taken.lane_id, l.gates
  FROM taken, LATERAL (SELECT gates FROM cgk.lanes WHERE id = taken.lane_id LIMIT 1) AS l;

-- fragment: gate
-- A gate as Python wants it. A bucket that was not used for a day is full, however long ago that was.
g.id, g.at_once, g.lend_to, g.rate, g.period, g.burst,
       extract(epoch FROM greatest(g.tat, clock_timestamp() - interval '1 day'))::float8 AS tat,
       extract(epoch FROM g.opens_at)::float8 AS opens_at

-- name: full_gates
-- Gates at which lanes wait for a place, found by jumping from gate to gate; so many, beginning after one of them.
-- One that is gone limits nothing any more.
WITH RECURSIVE waited AS (
    (SELECT waits_at FROM cgk.lanes WHERE status = 'full' AND waits_at > %(after)s ORDER BY waits_at LIMIT 1)
    UNION ALL
    SELECT following.waits_at FROM waited, LATERAL (
        SELECT waits_at FROM cgk.lanes WHERE status = 'full' AND waits_at > waited.waits_at
         ORDER BY waits_at LIMIT 1) AS following
), few AS (SELECT waits_at FROM waited LIMIT %(limit)s)
SELECT few.waits_at, {{gate}}
  FROM few LEFT JOIN LATERAL (SELECT * FROM cgk.gates WHERE id = few.waits_at LIMIT 1) AS g ON true;

-- name: due_gates
-- Gates whose time has come.
SELECT {{gate}} FROM cgk.gates g WHERE g.opens_at <= clock_timestamp() ORDER BY g.opens_at LIMIT %(limit)s;

-- name: gates
SELECT {{gate}} FROM cgk.gates g WHERE g.id = ANY(%(ids)s::bigint[]);

-- name: reopen
-- full, closed, new → open: so many lanes of each gate, those with the least virtual time first, and the new ones. A
-- share that had no open lane begins at the clock of its queue: nobody saves up. Returns how many each gate has let go.
WITH chosen AS MATERIALIZED (
    SELECT l.id, g.gate FROM unnest(%(gate)s::bigint[], %(room)s::int[]) AS g (gate, room), LATERAL (
        (SELECT id FROM cgk.lanes WHERE status = 'full' AND waits_at = g.gate ORDER BY vkey LIMIT g.room)
        UNION ALL
        (SELECT id FROM cgk.lanes WHERE status = 'closed' AND waits_at = g.gate ORDER BY vkey LIMIT g.room)) AS l
    UNION ALL
    (SELECT id, NULL FROM cgk.lanes WHERE status = 'new' ORDER BY id LIMIT %(new)s)
), opened AS (
    UPDATE cgk.lanes l SET status = 'open', waits_at = NULL, vkey = NULL
     WHERE l.id = ANY(ARRAY(SELECT id FROM chosen)) RETURNING l.share_id
), counted AS MATERIALIZED (
    SELECT share_id, count(*)::int AS lanes FROM opened GROUP BY share_id
), passed AS (
    UPDATE cgk.gates SET opens_at = NULL WHERE id = ANY(%(due)s::bigint[])
), woken AS (
    UPDATE cgk.shares s
       SET open_lanes = s.open_lanes + ((SELECT jsonb_object_agg(share_id, lanes) FROM counted) ->> s.id::text)::int,
           vtime = CASE WHEN s.open_lanes = 0
                        THEN greatest(s.vtime, coalesce((%(clocks)s::jsonb ->> s.queue)::float8, 0)) ELSE s.vtime END
     WHERE s.id = ANY(ARRAY(SELECT share_id FROM counted))
)
SELECT gate, count(*)::int AS lanes FROM chosen GROUP BY gate;

-- fragment: work_in_q
-- How many runs the living workers of the queue q execute at once, and the events of what is dispatched there and not
-- claimed yet, up to a limit. q.since: where this look begins; since: where the next one may. What is dispatched later is not
-- from before now, save in a transaction that lasts for 5 s. Else each look would go through all that was claimed
-- while somebody's long transaction kept PostgreSQL from forgetting it.
(SELECT coalesce(sum(coalesce(w.processes, 1)), 0) FROM cgk.workers w
         WHERE w.heartbeat_at > now() - make_interval(secs => %(timeout)s) AND q.queue = ANY(w.queues))::int AS processes,
       found.unclaimed, greatest(q.since, found.oldest - interval '5 seconds')::text AS since

-- fragment: unclaimed_in_q
LATERAL (
       SELECT coalesce(array_agg(event), '{}') AS unclaimed,
              CASE WHEN count(*) < %(most)s THEN coalesce(min(handed_over_at), clock_timestamp()) END AS oldest
         FROM (SELECT r.* FROM generate_series(0, 9) AS urgency, LATERAL (
                      SELECT event, handed_over_at FROM cgk.runs
                       WHERE state = 'pending' AND handed_over_at IS NOT NULL AND queue = q.queue
                         AND priority = urgency::smallint AND handed_over_at >= q.since
                       ORDER BY handed_over_at LIMIT %(most)s) AS r
                LIMIT %(most)s) AS first) AS found

-- name: crowd
-- lanes_wait: whether a lane of the queue is open, or will be at the next pass.
SELECT {{work_in_q}},
       EXISTS (SELECT FROM cgk.shares WHERE queue = q.queue AND open_lanes > 0)
           OR EXISTS (SELECT FROM cgk.lanes WHERE status = 'new' AND queue = q.queue) AS lanes_wait
  FROM (VALUES (%(queue)s::text, %(since)s::timestamptz)) AS q (queue, since), {{unclaimed_in_q}};

-- name: open_queues
-- Queues with open lanes that are not paused, found by jumping.
WITH RECURSIVE queues AS (
    (SELECT queue FROM cgk.shares WHERE open_lanes > 0 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT following.queue FROM queues, LATERAL (
        SELECT queue FROM cgk.shares WHERE open_lanes > 0 AND queue > queues.queue ORDER BY queue LIMIT 1) AS following
)
SELECT q.queue, {{work_in_q}}
  FROM (SELECT queue, coalesce((%(since)s::jsonb ->> queue)::timestamptz, '-infinity') AS since FROM queues) AS q,
       {{unclaimed_in_q}}
 WHERE NOT EXISTS (SELECT FROM cgk.paused_queues p WHERE p.queue = q.queue);

-- name: candidates
-- The open lanes of the shares that had least, each share's in their order; the fewer shares, the more lanes of each.
-- floor: no share with an open lane has less. is_paused: the lane is not to be open, or its tenant is suspended.
WITH first AS MATERIALIZED (
    SELECT id, vtime, weight, tenant_id FROM cgk.shares
     WHERE queue = %(queue)s AND open_lanes > 0 AND vtime >= %(floor)s
     ORDER BY vtime LIMIT %(shares)s
), each AS MATERIALIZED (SELECT greatest(4, %(lanes)s / greatest(1, count(*))) AS lanes FROM first)
SELECT s.id AS share, s.vtime, s.weight, l.id AS lane, l.event, l.priority, l.gates, l.alone, l.front, l.arrivals,
       l.taken, greatest(1, l.arrivals - l.taken) AS waiting,
       EXISTS (SELECT FROM cgk.tenants t WHERE t.id = s.tenant_id AND t.status = 'suspended' OFFSET 0)
           OR EXISTS (SELECT FROM cgk.pauses p
                       WHERE (p.queue IS NULL OR p.queue = %(queue)s) AND (p.tenant_id IS NULL OR p.tenant_id = s.tenant_id)
                         AND (p.event IS NULL OR p.event = l.event) OFFSET 0) AS is_paused
  FROM first s, each, LATERAL (
       SELECT id, event, priority, gates, alone, front, arrivals, taken FROM cgk.lanes
        WHERE share_id = s.id AND status = 'open' ORDER BY urgency LIMIT each.lanes) AS l
 ORDER BY s.vtime;

-- name: slots
-- The first of so many slots. Whoever calls this holds the lock.
SELECT setval('cgk.slot_numbers', nextval('cgk.slot_numbers') + %(slots)s - 1) - %(slots)s + 1 AS first;

-- name: settle_lanes
-- Where they are after the pass. A lane that was told meanwhile is not empty, and holds perhaps a run before its front.
UPDATE cgk.lanes l
   SET status = CASE WHEN p.status = 'empty' AND l.arrivals <> p.arrivals THEN 'new' ELSE p.status END,
       front = CASE WHEN l.arrivals = p.arrivals THEN p.front ELSE l.front END,
       urgency = CASE WHEN l.arrivals = p.arrivals
                      THEN p.front - make_interval(secs => %(step)s * (l.priority - 5)) ELSE l.urgency END,
       taken = p.taken, waits_at = p.waits_at, vkey = p.vkey
  FROM unnest(%(lane)s::bigint[], %(status)b::text[], %(front)s::timestamptz[], %(arrivals)s::bigint[],
              %(taken)s::bigint[], %(waits_at)s::bigint[], %(vkey)s::float8[])
       AS p (lane, status, front, arrivals, taken, waits_at, vkey)
 WHERE l.id = ANY(%(lane)s::bigint[]) AND l.id = p.lane;

-- name: settle_shares
UPDATE cgk.shares s SET vtime = s.vtime + p.charge, open_lanes = s.open_lanes - p.closed
  FROM unnest(%(share)s::bigint[], %(charge)s::float8[], %(closed)s::int[]) AS p (share, charge, closed)
 WHERE s.id = ANY(%(share)s::bigint[]) AND s.id = p.share;

-- name: charge_overtime
-- What packets take beyond what their shares were charged when they were admitted: the seconds since the last look at
-- them, of a packet of several lanes a part from each. oldest: before it no slot is held. unknown: of a run of an event that nobody has measured; budget: what a packet may take in any case.
WITH last AS MATERIALIZED (
    SELECT charged_at, clock_timestamp() AS now FROM cgk.passes
), charged AS (
    SELECT r.lane_id, count(*) OVER (PARTITION BY r.slot) AS lanes, min(r.started_at)
           + make_interval(secs => greatest(max(coalesce(t.mean_seconds, %(unknown)s)), %(budget)s)) AS until
      FROM (SELECT lane_id, slot, event, started_at FROM cgk.runs
             WHERE {{is_slot}} AND children_open = 0 AND state = 'running' AND slot >= %(oldest)s) r
      LEFT JOIN cgk.run_times t ON t.event = r.event
     GROUP BY r.slot, r.lane_id
), owed AS MATERIALIZED (
    SELECT l.share_id, sum(extract(epoch FROM last.now - greatest(last.charged_at, charged.until)) / charged.lanes)::float8
                        AS seconds
      FROM last, charged, LATERAL (SELECT share_id FROM cgk.lanes WHERE id = charged.lane_id LIMIT 1) AS l
     WHERE charged.until < last.now GROUP BY l.share_id
), noted AS (
    UPDATE cgk.passes SET charged_at = (SELECT now FROM last)
)
UPDATE cgk.shares s
   SET vtime = s.vtime + ((SELECT jsonb_object_agg(share_id, seconds) FROM owed) ->> s.id::text)::float8 / s.weight
 WHERE s.id = ANY(ARRAY(SELECT share_id FROM owed));

-- name: settle_gates
UPDATE cgk.gates g
   SET tat = coalesce(to_timestamp(p.tat), g.tat), opens_at = coalesce(to_timestamp(p.opens_at), g.opens_at)
  FROM unnest(%(gate)s::bigint[], %(tat)s::float8[], %(opens_at)s::float8[]) AS p (gate, tat, opens_at)
 WHERE g.id = ANY(%(gate)s::bigint[]) AND g.id = p.gate;

-- name: by_index
SELECT {{by_index}};

-- fragment: strayed
-- The gates of closed lanes that are gone or have no time at which they open any more.
waited AS (
    (SELECT waits_at FROM cgk.lanes WHERE status = 'closed' ORDER BY waits_at LIMIT 1)
    UNION ALL
    SELECT following.waits_at FROM waited, LATERAL (
        SELECT waits_at FROM cgk.lanes WHERE status = 'closed' AND waits_at > waited.waits_at
         ORDER BY waits_at LIMIT 1) AS following
), strayed AS (
    SELECT waits_at FROM waited WHERE (SELECT opens_at FROM cgk.gates WHERE id = waits_at) IS NULL
)

-- name: forget_strayed
-- closed → new, where the gate is gone or has no time at which it opens any more.
WITH RECURSIVE {{strayed}}
UPDATE cgk.lanes SET status = 'new', waits_at = NULL, vkey = NULL
 WHERE status = 'closed' AND waits_at = ANY(ARRAY(SELECT waits_at FROM strayed));

-- fragment: may_open
-- Neither paused nor of a suspended tenant.
NOT EXISTS (SELECT FROM cgk.tenants t WHERE t.id = l.tenant_id AND t.status = 'suspended' OFFSET 0)
       AND NOT EXISTS (SELECT FROM cgk.pauses p
                        WHERE (p.queue IS NULL OR p.queue = l.queue) AND (p.tenant_id IS NULL OR p.tenant_id = l.tenant_id)
                          AND (p.event IS NULL OR p.event = l.event) OFFSET 0)

-- name: untold
-- Lanes of which nobody told that they hold runs, or hold one before their front: its sender died before, or PostgreSQL
-- forgot it, or they were paused or their tenant suspended. Jumps from lane to lane in the runs' index; looks at so many,
-- beginning after one of them. Locks nothing, so that passes go on meanwhile. Returns the last that it looked at, those that
-- are gone, and whether closed lanes have strayed.
WITH RECURSIVE holding AS (
    (SELECT lane_id, rank FROM cgk.runs WHERE state = 'held' AND lane_id > %(after)s ORDER BY lane_id, rank LIMIT 1)
    UNION ALL
    SELECT following.lane_id, following.rank FROM holding, LATERAL (
        SELECT lane_id, rank FROM cgk.runs WHERE state = 'held' AND lane_id > holding.lane_id
         ORDER BY lane_id, rank LIMIT 1) AS following
), few AS MATERIALIZED (SELECT lane_id, rank FROM holding LIMIT %(limit)s), suspects AS MATERIALIZED (
    SELECT few.lane_id, l.id, l.queue, l.tenant_id, l.event
      FROM few LEFT JOIN LATERAL (SELECT * FROM cgk.lanes WHERE id = few.lane_id LIMIT 1) AS l ON true
     WHERE l.id IS NULL OR l.status = 'empty' OR l.front > few.rank
), {{strayed}}
SELECT (SELECT count(*) FROM few) AS looked, (SELECT max(lane_id) FROM few) AS last,
       ARRAY(SELECT l.id FROM suspects l WHERE l.id IS NOT NULL AND {{may_open}}) AS lanes,
       ARRAY(SELECT lane_id FROM suspects WHERE id IS NULL) AS gone,
       EXISTS (SELECT FROM strayed) AS have_strayed;

-- fragment: first_rank
((SELECT jsonb_object_agg(lane_id, rank) FROM few) ->> l.id::text)::timestamptz

-- name: tell_untold
-- Under the lock, and only what is still so.
WITH few AS MATERIALIZED (
    SELECT given.id AS lane_id, first.rank FROM unnest(%(lanes)s::bigint[]) AS given (id), LATERAL (
        SELECT rank FROM cgk.runs WHERE state = 'held' AND lane_id = given.id ORDER BY lane_id, rank LIMIT 1) AS first
), told AS (
    UPDATE cgk.lanes l
       SET (arrivals, front, urgency, status) = (
           SELECT {{as_told}}
             FROM (SELECT CASE l.status WHEN 'empty' THEN 100 ELSE 1 END AS runs, {{first_rank}} AS rank OFFSET 0) AS told)
     WHERE l.id = ANY(ARRAY(SELECT lane_id FROM few)) AND (l.status = 'empty' OR l.front > {{first_rank}}) AND {{may_open}}
    RETURNING l.id
)
SELECT count(*) AS told FROM told;

-- name: prune_lanes
-- Lanes that no process knows any more, and that hold no run and count no slot; so many. Returns their gates.
DELETE FROM cgk.lanes WHERE id = ANY(ARRAY(
    SELECT l.id FROM cgk.lanes l
     WHERE l.status = 'empty' AND l.used_at < now() - interval '1 day'
       AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.lane_id = l.id AND r.state = 'held' OFFSET 0)
       AND l.id <> ALL(ARRAY(SELECT DISTINCT lane_id FROM cgk.runs WHERE {{is_slot}} AND lane_id IS NOT NULL))
     LIMIT %(limit)s))
RETURNING gates;

-- name: prune_gates
-- Those of these gates that no lane has any more; a bucket that is not full is still needed.
DELETE FROM cgk.gates g
 WHERE g.id = ANY(%(gates)s::bigint[]) AND g.tat <= now() AND (g.opens_at IS NULL OR g.opens_at <= now())
   AND NOT EXISTS (SELECT FROM (SELECT unnest(gates) AS gate FROM cgk.lanes) l WHERE l.gate = g.id);
