-- fragment: run_again_meanwhile
-- Who looked for a run that was run again holds its lock, so that nobody adds one. since: of all time, or since somebody looked.
EXISTS (SELECT FROM cgk.runs a WHERE a.replay_of = h.id AND a.created_at >= %(since)s)
         OR EXISTS (SELECT FROM cgk.run_history a
                     WHERE a.replay_of = h.id AND a.created_at >= %(since)s AND a.closed_at >= h.closed_at - interval '1 hour')

-- fragment: has_incomplete_child(run)
-- Children close between their parent's sending and its end, so that of the history few days are looked at.
EXISTS (SELECT FROM cgk.run_history c
         WHERE c.parent_id = {run}.id AND c.state <> 'completed'
           AND c.closed_at BETWEEN {run}.created_at - interval '1 hour' AND {run}.closed_at + interval '1 hour')

-- fragment: plan(verdict)
-- The newest runs that match, and what an action would do with each: '' if it is for it, else why it would leave it alone.
WITH found AS MATERIALIZED (
    SELECT f.id, f.sent_at AS created_at, f.tenant_id, f.event, f.state, f.closed_at, f.parent_id::uuid AS parent_id
      FROM ({branches}) AS f ORDER BY f.sent_at DESC, f.id DESC LIMIT %(limit)s
), again AS MATERIALIZED (
    SELECT replay_of AS id FROM cgk.runs WHERE replay_of IS NOT NULL
    UNION SELECT replay_of FROM cgk.run_history WHERE replay_of IS NOT NULL
)
SELECT f.tenant_id, f.event, f.state, {verdict} AS verdict, count(*) AS runs
  FROM found f LEFT JOIN cgk.tenants t ON t.id = f.tenant_id
       LEFT JOIN again ON again.id = f.id LEFT JOIN cgk.discarded_runs d ON d.run_id = f.id
       LEFT JOIN cgk.runs o ON o.id = f.id
       LEFT JOIN (SELECT DISTINCT id FROM found WHERE closed_at IS NOT NULL) AS p ON p.id = f.parent_id
 GROUP BY 1, 2, 3, 4

-- name: plan_of_retry
{{plan(
    CASE WHEN o.id IS NOT NULL THEN 'open' WHEN f.state = 'completed' THEN 'completed' WHEN t.id IS NULL THEN 'tenant'
         WHEN d.run_id IS NOT NULL THEN 'discarded' WHEN again.id IS NOT NULL THEN 'again'
         WHEN {{has_incomplete_child(f)}} THEN 'parent' ELSE '' END)}};

-- name: plan_of_replay
{{plan(
    CASE WHEN o.id IS NOT NULL THEN 'open' WHEN t.id IS NULL THEN 'tenant' WHEN p.id IS NOT NULL THEN 'child' ELSE '' END)}};

-- name: plan_of_cancel
{{plan(
    CASE WHEN o.id IS NULL THEN 'closed' WHEN o.cancel_requested_at <= now() THEN 'requested' ELSE '' END)}};

-- fragment: closed_matches(verdict)
-- Closed runs with what it takes to run them again, and why not. until: they were sent and closed before it.
SELECT h.id::text, h.tenant_id, h.event, h.job, h.queue, h.priority, h.sealed_payload, h.max_attempts, h.parent_id::text,
       h.sealed_canvas, h.key_id, h.scheduled_for, {verdict} AS verdict
  FROM unnest(%(ids)s::uuid[], %(closed_at)b::timestamptz[]) AS given (id, closed_at)
       JOIN cgk.run_history h ON h.id = given.id AND h.closed_at = given.closed_at
       LEFT JOIN cgk.tenants t ON t.id = h.tenant_id

-- name: closed_to_retry
{{closed_matches(
    CASE WHEN EXISTS (SELECT FROM cgk.runs o WHERE o.id = h.id) THEN 'open' WHEN h.state = 'completed' THEN 'completed'
         WHEN greatest(h.created_at, h.closed_at) > %(until)s THEN 'later' WHEN t.id IS NULL THEN 'tenant'
         WHEN EXISTS (SELECT FROM cgk.discarded_runs d WHERE d.run_id = h.id) THEN 'discarded'
         WHEN {{run_again_meanwhile}} THEN 'again'
         WHEN {{has_incomplete_child(h)}} THEN 'parent' ELSE '' END)}};

-- name: closed_to_replay
{{closed_matches(
    CASE WHEN EXISTS (SELECT FROM cgk.runs o WHERE o.id = h.id) THEN 'open'
         WHEN greatest(h.created_at, h.closed_at) > %(until)s THEN 'later' WHEN t.id IS NULL THEN 'tenant'
         WHEN {{run_again_meanwhile}} THEN 'again'
         WHEN h.parent_id = ANY(%(matching_parents)s::uuid[]) THEN 'child' ELSE '' END)}};

-- name: open_to_cancel
-- Open runs, and why not. Their rows are locked.
SELECT r.id::text, CASE WHEN r.created_at > %(until)s THEN 'later' WHEN r.cancel_requested_at <= now() THEN 'requested'
                        ELSE '' END AS verdict
  FROM cgk.runs r WHERE r.id = ANY(%(ids)s::uuid[]);
