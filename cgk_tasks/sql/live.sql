-- By what the dashboard notices that something has changed that a page shows: once a second, while somebody looks at such a
-- page. cgk_tasks/dashboard/live_marks.py calls these. Nothing here has a payload, or an error's text.

-- fragment: watched_runs
-- The open run, else the one that closed last.
open AS MATERIALIZED (
    SELECT r.id, concat_ws(' ', r.state, r.attempt, r.deaths, r.run_at, r.handed_over_at, r.started_at, r.worker_id,
                           r.cancel_requested_at, r.children_open) AS mark
      FROM cgk.runs r WHERE r.id = ANY(%(ids)s::uuid[])
), closed AS MATERIALIZED (
    SELECT DISTINCT ON (h.id) h.id, concat_ws(' ', h.state, h.attempt, h.closed_at) AS mark
      FROM cgk.run_history h
     WHERE h.id = ANY(ARRAY(SELECT unnest(%(ids)s::uuid[]) EXCEPT SELECT id FROM open))
     ORDER BY h.id, h.closed_at DESC
), watched AS (
    SELECT id, mark FROM open UNION ALL SELECT id, mark FROM closed
)

-- name: runs
-- With what it tells of itself, what it has logged, its steps, and the runs that it has made.
WITH {{watched_runs}}
SELECT w.id::text, w.mark,
       (SELECT p.changed_at FROM cgk.run_progress p WHERE p.run_id = w.id)::text AS told,
       (SELECT concat_ws(' ', count(*), max(l.logged_at)) FROM cgk.run_logs l WHERE l.run_id = w.id) AS logged,
       (SELECT concat_ws(' ', count(*), max(s.begun_at), max(s.ended_at), sum(s.attempts)) FROM cgk.steps s
         WHERE s.run_id = w.id) AS steps,
       (SELECT sum(hashtext(concat_ws(' ', c.id, c.state, c.attempt))::bigint)::text FROM cgk.runs c
         WHERE c.parent_id = w.id) AS children
  FROM watched w;

-- name: runs_before_workflows
-- The same before cgk-tasks migrate --finish, while there are neither steps nor progress.
WITH {{watched_runs}}
SELECT w.id::text, w.mark,
       (SELECT concat_ws(' ', count(*), max(l.logged_at)) FROM cgk.run_logs l WHERE l.run_id = w.id) AS logged
  FROM watched w;

-- name: queues
-- Pauses, and the lanes in which runs wait.
-- One look at all lanes, whatever the queues.
WITH waiting AS MATERIALIZED (
    SELECT queue, concat_ws(' ', count(*), sum(hashtext(concat_ws(' ', id, status, front, arrivals, taken, waits_at))::bigint))
               AS mark
      FROM cgk.lanes WHERE status <> 'empty' AND queue = ANY(%(queues)s::text[]) GROUP BY queue
)
SELECT q.queue, (SELECT p::text FROM cgk.paused_queues p WHERE p.queue = q.queue) AS pause,
       coalesce((SELECT mark FROM waiting w WHERE w.queue = q.queue), '0') AS lanes
  FROM unnest(%(queues)s::text[]) AS q (queue);

-- name: queues_before_lanes
-- The same before cgk-tasks migrate --finish.
SELECT q.queue, (SELECT p::text FROM cgk.paused_queues p WHERE p.queue = q.queue) AS pause
  FROM unnest(%(queues)s::text[]) AS q (queue);

-- name: overview
-- The transaction that has counted last, and who works.
SELECT (SELECT xmin::text FROM cgk.count_progress) AS counted,
       (SELECT concat_ws(' ', count(*), sum(coalesce(processes, 1))) FROM cgk.workers
         WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s)) AS workers;

-- name: overview_before_counts
-- The same before cgk-tasks migrate.
SELECT (SELECT count(*) FROM cgk.workers
         WHERE heartbeat_at > now() - make_interval(secs => %(timeout)s))::text AS workers;

-- name: actions
-- How far actions on many runs have come. is_lost: as the audit says it.
SELECT a.id::text, concat_ws(' ', a.affected, a.outcome, a.abort_requested_at, a.details -> 'left') AS mark,
       a.outcome = 'begun' AND a.seen_at < clock_timestamp() - interval '60 seconds' AS is_lost
  FROM cgk.audit a WHERE a.id = ANY(%(ids)s::bigint[]);

-- name: workers
-- Who works, who is to be drained, who dispatches, and which process has which runs. Heartbeats apart, which come all the time.
SELECT (SELECT concat_ws(' ', count(*), sum(hashtext(concat_ws(' ', w.id, w.queues,
                                                               w.heartbeat_at > now() - make_interval(secs => %(timeout)s),
                                                               more ->> 'pool_size', more ->> 'drain_wanted_at',
                                                               more ->> 'drains_since', more ->> 'drained_at'))::bigint))
          FROM cgk.workers w, LATERAL (SELECT to_jsonb(w) - 'executes' AS more) AS m) AS workers,
       (SELECT holder::text FROM cgk.leases WHERE name = 'dispatcher' AND expires_at > now()) AS dispatcher,
       (SELECT sum(hashtext(concat_ws(' ', r.id, r.attempt, r.worker_pid))::bigint)::text FROM cgk.workers w, LATERAL (
            SELECT id, attempt, worker_pid FROM cgk.runs WHERE {{held_by(w.id)}} OFFSET 0) AS r) AS runs;
