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
SELECT queue, priority, oldest, now() AS now FROM lists WHERE oldest < now() - make_interval(secs => %(patience)s);

-- name: next_due
-- In how many seconds the next run is due; less than 0 if one is, and infinite if it only waits for others. NULL: none is on
-- record. are_unpublished: whether runs that may start are in no message.
SELECT extract(epoch FROM min(run_at))::float8 - extract(epoch FROM clock_timestamp())::float8 AS seconds,
       EXISTS (SELECT FROM cgk.runs WHERE state = 'pending' AND handed_over_at IS NULL) AS are_unpublished
  FROM cgk.runs WHERE state IN ('scheduled', 'retrying');

-- fragment: what_comes
-- lanes_wait: as the statement of this name in admission.sql, full gates included.
extract(epoch FROM min(run_at))::float8 - extract(epoch FROM clock_timestamp())::float8 AS seconds,
       (SELECT true FROM cgk.runs WHERE state = 'pending' AND handed_over_at IS NULL ORDER BY priority DESC, run_at LIMIT 1)
           IS NOT NULL AS are_unpublished,
       coalesce((SELECT min(expires_at) FROM cgk.runs WHERE expires_at IS NOT NULL) <= now(), false) AS are_expired,
       (SELECT true FROM cgk.lanes WHERE status = 'new' ORDER BY id LIMIT 1) IS NOT NULL
           OR (SELECT true FROM cgk.lanes WHERE status = 'full' ORDER BY waits_at, vkey LIMIT 1) IS NOT NULL
           OR (SELECT true FROM cgk.shares WHERE open_lanes > 0 ORDER BY queue, vtime LIMIT 1) IS NOT NULL
           OR EXISTS (SELECT FROM cgk.gates WHERE opens_at <= clock_timestamp()) AS lanes_wait,
       EXISTS (SELECT FROM cgk.pauses) OR EXISTS (SELECT FROM cgk.paused_queues) AS are_pauses,
       EXISTS (SELECT FROM cgk.awaited) AS is_awaited,
       EXISTS (SELECT FROM cgk.guards) AS are_guards,
       EXISTS (SELECT FROM cgk.workers OFFSET 1) AS are_workers

-- name: glance
-- The same, and what else a leader has to look after: each column is whether there may be something to do, and found in an
-- index: in its order, or PostgreSQL would read the table for what it believes to be frequent, and dead rows with it; from
-- its end, where those are that came last. Without tables of later migrations the statement fails.
SELECT {{what_comes}},
       (SELECT true FROM cgk.runs WHERE state = 'pending' AND handed_over_at IS NOT NULL
         ORDER BY queue DESC, priority DESC, handed_over_at DESC LIMIT 1) IS NOT NULL AS are_dispatched,
       (SELECT true FROM cgk.runs WHERE state = 'running' ORDER BY worker_id DESC LIMIT 1) IS NOT NULL AS are_running,
       (SELECT true FROM cgk.runs WHERE state = 'held' AND lane_id IS NOT NULL
         ORDER BY lane_id DESC, rank DESC, id DESC LIMIT 1) IS NOT NULL
           OR (SELECT true FROM cgk.runs WHERE state = 'held' AND lane_id IS NULL ORDER BY queue DESC, tenant_id DESC LIMIT 1)
               IS NOT NULL AS are_held
  FROM cgk.runs WHERE state IN ('scheduled', 'retrying');

-- name: short_glance
-- Without what a backlog leaves behind in the indexes of runs, which PostgreSQL goes through while a long transaction of
-- somebody's keeps it from forgetting that.
SELECT {{what_comes}}
  FROM cgk.runs WHERE state IN ('scheduled', 'retrying');

-- name: lease_is_free
-- Whether nobody leads the workers.
SELECT NOT EXISTS (SELECT FROM cgk.leases WHERE name = 'dispatcher' AND expires_at >= now()) AS yes;

-- name: next_dispatched
-- Runs of these queues that wait to be claimed, the most urgent and then the oldest first; not those that are `busy`. For
-- workers without a broker. Each priority of each queue is a look into the index of dispatched runs. What a pass has
-- admitted into one slot comes whole: it is one packet, whose runs have one place at their gates together. All of it was
-- admitted at the same moment. slot: NULL for a run that travels alone. Locks nothing.
WITH first AS MATERIALIZED (
    SELECT r.*
      FROM generate_series(9, 0, -1) AS urgency, unnest(%(queues)b::text[]) AS of_worker (queue), LATERAL (
          SELECT id, queue, priority, handed_over_at, CASE WHEN admitted_at = handed_over_at THEN slot END AS slot
            FROM cgk.runs
           WHERE state = 'pending' AND handed_over_at IS NOT NULL AND runs.queue = of_worker.queue
             AND priority = urgency::smallint AND (expires_at IS NULL OR expires_at > now())
             AND id <> ALL(%(busy)s::uuid[])
           ORDER BY handed_over_at LIMIT %(limit)s) AS r
     ORDER BY urgency DESC, r.handed_over_at LIMIT %(limit)s
)
SELECT id::text, tenant_id, event, queue, priority, deaths, handed_over_at, NULL::bigint AS slot
  FROM cgk.runs WHERE id = ANY(ARRAY(SELECT id FROM first WHERE slot IS NULL))
UNION ALL
SELECT r.id::text, r.tenant_id, r.event, r.queue, r.priority, r.deaths, r.handed_over_at, r.slot
  FROM (SELECT DISTINCT queue, priority, handed_over_at, slot FROM first WHERE slot IS NOT NULL) AS packet, LATERAL (
       SELECT id, tenant_id, event, queue, priority, deaths, handed_over_at, slot FROM cgk.runs
        WHERE state = 'pending' AND queue = packet.queue AND priority = packet.priority
          AND handed_over_at = packet.handed_over_at AND slot = packet.slot AND admitted_at = handed_over_at OFFSET 0) AS r
 ORDER BY priority DESC, handed_over_at, slot, id;

-- name: pending_runs
-- How many runs of each queue wait for a worker to claim them.
SELECT queue, count(*) AS runs FROM cgk.runs WHERE state = 'pending' GROUP BY queue ORDER BY queue;

-- name: sent_at
-- When these runs were dispatched by their sender, which was right after they were made. Of a run that was dispatched again
-- or attempted, the record has a later dispatch.
SELECT min(CASE WHEN hand_overs = 1 AND attempt = 0 THEN handed_over_at ELSE created_at END) AS sent_at
  FROM (SELECT created_at, handed_over_at, hand_overs, attempt FROM cgk.runs WHERE id = ANY(%(ids)s::uuid[])
        UNION ALL
        SELECT created_at, handed_over_at, hand_overs, attempt FROM cgk.run_history WHERE id = ANY(%(ids)s::uuid[]))
       AS of_message;

-- name: take_lease
INSERT INTO cgk.leases (name, holder, expires_at)
VALUES (%(name)s, %(holder)s::uuid, now() + make_interval(secs => %(seconds)s))
ON CONFLICT (name) DO UPDATE SET holder = EXCLUDED.holder, expires_at = EXCLUDED.expires_at
 WHERE leases.holder = EXCLUDED.holder OR leases.expires_at < now()
RETURNING name;

-- name: drop_lease
DELETE FROM cgk.leases WHERE name = %(name)s AND holder = %(holder)s::uuid;

-- name: heartbeat
-- Gives and writes nothing for a worker that is not registered: it never was, or PostgreSQL has crashed, or others gave it up.
-- now: what PostgreSQL's clock says. is_first: whether this has made the row, of which nothing else is known then. waited_for: workers that bar all claims, because they have not yet said what they run
-- since PostgreSQL crashed (is_barred). What the worker executes is written when it changes, as it may be
-- long; NULL: as it has said before.
-- revision: the newest migration that this code knows; who knows none of them is of an earlier release.
-- has_neighbours: whether there are other workers on this machine. drain_wanted_at: since when an operator wants it to take no more runs. As JSON the row is read also before there are such columns, of
-- which can_drain tells.
INSERT INTO cgk.workers AS known (id, name, pid, queues, pid_namespace, process_started, clock_offset_seconds, executes,
                                   revision)
SELECT %(id)s::uuid, %(name)s, %(pid)s::integer, %(queues)s::text[], %(pid_namespace)s, %(process_started)s::bigint,
       %(clock_offset)s::float8, %(executes)s::text[], '0034'
 WHERE EXISTS (SELECT FROM cgk.presence WHERE worker_id = %(id)s::uuid)
ON CONFLICT (id) DO UPDATE
   SET heartbeat_at = now(), queues = EXCLUDED.queues, clock_offset_seconds = EXCLUDED.clock_offset_seconds,
       executes = CASE WHEN EXCLUDED.executes IS NULL OR known.executes = EXCLUDED.executes THEN known.executes
                       ELSE EXCLUDED.executes END
RETURNING clock_timestamp() AS now, known.started_at = now() AS is_first, to_jsonb(known) ? 'drain_wanted_at' AS can_drain,
          (to_jsonb(known) ->> 'drain_wanted_at')::timestamptz AS drain_wanted_at,
          EXISTS (SELECT FROM cgk.workers w WHERE w.pid_namespace = %(pid_namespace)s AND w.id <> %(id)s::uuid)
              AS has_neighbours,
          ARRAY(SELECT w.name || ', silent for ' || round(extract(epoch FROM now() - w.heartbeat_at)) || ' s'
                  FROM cgk.workers w LEFT JOIN cgk.presence p ON p.worker_id = w.id
                 WHERE p.worker_id IS NULL AND w.id <> %(id)s::uuid ORDER BY w.name) AS waited_for;

-- name: note_worker
-- What a worker says of its processes, and how far it is drained. Written when it changes.
UPDATE cgk.workers w
   SET pool_size = %(pool_size)s, memory = %(memory)s::jsonb,
       drains_since = CASE WHEN %(drains)s THEN coalesce(w.drains_since, now()) END,
       drained_at = CASE WHEN %(is_drained)s THEN coalesce(w.drained_at, now()) END
 WHERE id = %(id)s::uuid
   AND (w.pool_size, w.memory, w.drains_since IS NOT NULL, w.drained_at IS NOT NULL)
       IS DISTINCT FROM (%(pool_size)s, %(memory)s::jsonb, %(drains)s, %(is_drained)s);

-- name: drain_again
-- The worker's row was removed while it could not be heard: what was wanted of it is still wanted.
UPDATE cgk.workers SET drain_wanted_at = %(wanted_at)s WHERE id = %(id)s::uuid AND drain_wanted_at IS NULL;

-- name: other_executors
-- Whether another living worker of the queue executes runs of this name. One of an older release does not say what it does.
SELECT EXISTS (
    SELECT FROM cgk.workers
     WHERE id <> %(id)s::uuid AND heartbeat_at > now() - make_interval(secs => %(timeout)s)
       AND %(queue)s = ANY(queues) AND (executes IS NULL OR %(name)s = ANY(executes))) AS found;

-- name: register_worker
-- A row comes back at a worker's first heartbeat, and at its first after a crash of PostgreSQL.
INSERT INTO cgk.presence (worker_id) VALUES (%(id)s::uuid) ON CONFLICT DO NOTHING RETURNING worker_id;

-- name: deregister_worker
WITH gone AS (DELETE FROM cgk.presence WHERE worker_id = %(id)s::uuid)
DELETE FROM cgk.workers WHERE id = %(id)s::uuid;

-- name: list_workers
SELECT id::text, name, pid, queues, started_at, heartbeat_at, clock_offset_seconds,
       extract(epoch FROM now() - heartbeat_at)::float8 AS silent_seconds
  FROM cgk.workers ORDER BY name;

-- name: runs_of_worker
SELECT id::text, attempt, worker_pid, coalesce(cancel_requested_at <= now(), false) AS cancel_requested,
       extract(epoch FROM clock_timestamp() - started_at)::float8 AS seconds
  FROM unnest(ARRAY[%(id)s::uuid]) AS of (worker), LATERAL (
       SELECT id, attempt, worker_pid, cancel_requested_at, started_at FROM cgk.runs WHERE {{held_by(of.worker)}} OFFSET 0) AS r;

-- name: dead_workers
-- Workers that are silent, and owners of running runs that have no row (a worker that left in a hurry).
SELECT id::text FROM cgk.workers WHERE heartbeat_at < now() - make_interval(secs => %(timeout)s)
UNION
SELECT DISTINCT r.worker_id::text
  FROM unnest(ARRAY['00000000-0000-0000-0000-000000000000'::uuid], ARRAY['ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid])
           AS of (first, last), LATERAL (
       SELECT worker_id FROM cgk.runs
        WHERE {{held_between(of.first AND of.last)}} AND started_at < now() - make_interval(secs => %(timeout)s) OFFSET 0) AS r
 WHERE NOT EXISTS (SELECT FROM cgk.workers w WHERE w.id = r.worker_id);

-- name: deregister_silent_worker
WITH gone AS (
    DELETE FROM cgk.workers
     WHERE id = %(id)s::uuid AND heartbeat_at < now() - make_interval(secs => %(timeout)s) RETURNING id, name
), absent AS (
    DELETE FROM cgk.presence USING gone WHERE worker_id = gone.id
)
SELECT name FROM gone;

-- name: silent_neighbours
-- Workers of this machine that missed a heartbeat: whether their processes live can be seen here.
SELECT id::text, pid, process_started FROM cgk.workers
 WHERE pid_namespace = %(pid_namespace)s AND process_started IS NOT NULL AND id <> %(id)s::uuid
   AND heartbeat_at < now() - make_interval(secs => %(silence)s);

-- name: deregister_gone_worker
-- Its process has ended: its lease is free as well.
WITH gone AS (
    DELETE FROM cgk.workers WHERE id = %(id)s::uuid RETURNING id, name
), absent AS (
    DELETE FROM cgk.presence USING gone WHERE worker_id = gone.id
), free AS (
    DELETE FROM cgk.leases USING gone WHERE holder = gone.id
)
SELECT name FROM gone;

-- name: forget_keys
-- Not those of which a send, perhaps in an application's open transaction, has just made new ones.
DELETE FROM cgk.idempotency_keys WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM cgk.idempotency_keys WHERE expires_at <= now() LIMIT %(limit)s FOR UPDATE SKIP LOCKED));

-- name: forget_groups
DELETE FROM cgk.groups WHERE created_at < now() - make_interval(days => %(days)s);

-- name: forget_discarded
DELETE FROM cgk.discarded_runs WHERE closed_at < now() - make_interval(days => %(days)s);

-- name: partitions
SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = to_regclass(%(table)s) ORDER BY 1;

-- name: has_runs_between
-- Whether a run is on record, open or closed, whose id is among these.
SELECT EXISTS (SELECT FROM cgk.runs WHERE id >= %(begin)s::uuid AND id < %(end)s::uuid)
    OR EXISTS (SELECT FROM cgk.run_history WHERE id >= %(begin)s::uuid AND id < %(end)s::uuid) AS yes;

-- name: run_times
SELECT event, mean_seconds FROM cgk.run_times;

-- name: note_run_times
-- A moving mean: slow runs count at once, quick ones little by little, so that packets are rather too short.
INSERT INTO cgk.run_times AS known (event, mean_seconds)
SELECT event, mean_seconds FROM unnest(%(event)b::text[], %(mean_seconds)b::float8[]) AS new (event, mean_seconds)
ON CONFLICT (event) DO UPDATE
   SET mean_seconds = greatest(EXCLUDED.mean_seconds, known.mean_seconds * 0.5 + EXCLUDED.mean_seconds * 0.5),
       noted_at = now();
