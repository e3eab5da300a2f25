-- What decides who may start, for people: lanes, gates and shares. cgk_tasks/dashboard/data/ calls these. Nothing here locks
-- a row, or reads all of the open runs.

-- fragment: is_paused(lane)
EXISTS (SELECT FROM cgk.pauses p
                WHERE (p.queue IS NULL OR p.queue = {lane}.queue) AND (p.tenant_id IS NULL OR p.tenant_id = {lane}.tenant_id)
                  AND (p.event IS NULL OR p.event = {lane}.event))

-- fragment: suspended(lane)
EXISTS (SELECT FROM cgk.tenants WHERE id = {lane}.tenant_id AND status = 'suspended' OFFSET 0)

-- fragment: wanted
-- Lanes of a queue in one look at all of them, those of a tenant by its shares. With statistics of a time with few lanes, a join with
-- shares would compare each with each.
(SELECT * FROM cgk.lanes WHERE %(tenant_id)s::text IS NULL AND (%(queue)s::text IS NULL OR queue = %(queue)s)
 UNION ALL
 SELECT of_share.* FROM cgk.shares s, LATERAL (SELECT * FROM cgk.lanes WHERE share_id = s.id OFFSET 0) AS of_share
  WHERE s.tenant_id = %(tenant_id)s AND (%(queue)s::text IS NULL OR s.queue = %(queue)s)) AS l

-- name: lanes
-- Lanes of a queue or of a tenant in which runs wait, those of the longest waiting first. A pass leaves lanes empty that are
-- paused, or whose tenant is suspended, though they hold runs. waiting: counted up to a limit. share: the tenant's part of
-- the queue by weight, among those of which something may start. lanes, tenants: how many there are in all.
WITH held AS MATERIALIZED (
    SELECT l.id, l.share_id, l.queue, l.tenant_id, l.event, l.priority, l.alone, l.status, l.waits_at, l.front
      FROM {{wanted}}
     WHERE l.status <> 'empty'
        OR (({{suspended(l)}} OR {{is_paused(l)}})
            AND EXISTS (SELECT FROM cgk.runs r WHERE r.lane_id = l.id AND r.state = 'held' OFFSET 0))
), few AS MATERIALIZED (
    SELECT first.*, s.weight, s.open_lanes, {{suspended(first)}} AS is_suspended
      FROM (SELECT * FROM held ORDER BY front, id LIMIT %(limit)s) AS first, LATERAL (
           SELECT weight, open_lanes FROM cgk.shares WHERE id = first.share_id OFFSET 0) AS s
), weights AS MATERIALIZED (
    SELECT queue, sum(weight) AS weight FROM cgk.shares
     WHERE open_lanes > 0 AND queue = ANY(ARRAY(SELECT DISTINCT queue FROM few)) GROUP BY queue
)
SELECT few.id, few.queue, few.tenant_id, few.event, few.priority, few.alone, few.status, few.weight, few.is_suspended,
       {{is_paused(few)}} AS is_paused, first.rank AS oldest, counted.runs AS waiting,
       few.weight / (coalesce(w.weight, 0) + CASE WHEN few.open_lanes > 0 THEN 0 ELSE few.weight END) AS share,
       g.id AS gate, g.at_once, g.rate, g.period, g.opens_at, rule.name AS rule, rule.job,
       (SELECT count(*) FROM held) AS lanes, (SELECT count(DISTINCT share_id) FROM held) AS tenants
  FROM few LEFT JOIN weights w ON w.queue = few.queue
       LEFT JOIN cgk.gates g ON g.id = few.waits_at LEFT JOIN cgk.rules rule ON rule.id = g.rule_id
       LEFT JOIN LATERAL (SELECT rank FROM cgk.runs WHERE lane_id = few.id AND state = 'held' ORDER BY rank LIMIT 1) AS first
           ON true,
       LATERAL (SELECT count(*) AS runs FROM (
                    SELECT FROM cgk.runs WHERE lane_id = few.id AND state = 'held'
                     ORDER BY rank LIMIT %(count_to)s) AS one) AS counted
 ORDER BY few.front, few.id;

-- name: shares_of_tenant
-- A tenant's part of each queue by weight, among the tenants of which something may start there.
SELECT s.queue, s.weight, s.open_lanes, others.tenants,
       s.weight / (s.weight + coalesce(others.weight, 0)) AS share
  FROM cgk.shares s, LATERAL (
       SELECT sum(weight) AS weight, count(*) AS tenants FROM cgk.shares o
        WHERE o.queue = s.queue AND o.open_lanes > 0 AND o.id <> s.id) AS others
 WHERE s.tenant_id = %(tenant_id)s ORDER BY s.queue LIMIT %(limit)s;

-- name: gates_waited_at
-- Gates that keep lanes of a queue or of a tenant, those that keep most of them first. gates: how many there are in all.
WITH waited AS (
    SELECT l.waits_at AS gate, count(*) AS lanes FROM {{wanted}}
     WHERE l.status IN ('full', 'closed') AND l.waits_at IS NOT NULL GROUP BY l.waits_at
)
SELECT gate, lanes, (SELECT count(*) FROM waited) AS gates FROM waited ORDER BY lanes DESC, gate LIMIT %(limit)s;

-- name: lanes_of_slots
SELECT id, queue, tenant_id FROM cgk.lanes WHERE id = ANY(%(ids)s::bigint[]);

-- name: gates
SELECT g.id, g.key, g.at_once, g.lend_to, g.rate, g.period, g.burst,
       extract(epoch FROM greatest(g.tat, clock_timestamp() - interval '1 day'))::float8 AS tat,
       extract(epoch FROM g.opens_at)::float8 AS opens_at, extract(epoch FROM clock_timestamp())::float8 AS now,
       r.name AS rule, r.job, r.event, r.kind, r.per, r.key_field
  FROM cgk.gates g JOIN cgk.rules r ON r.id = g.rule_id WHERE g.id = ANY(%(ids)s::bigint[]);

-- name: holders
-- Of each of these slots the run that is on longest; a slot's runs are executed one after another.
SELECT s.slot, held.id::text, held.tenant_id, held.event, held.state, held.started_at, held.handed_over_at
  FROM unnest(%(slots)s::bigint[]) AS s (slot), LATERAL (
       SELECT id, tenant_id, event, state, started_at, handed_over_at FROM cgk.runs
        WHERE slot = s.slot AND slot IS NOT NULL AND admitted_at = handed_over_at AND state IN ('pending', 'running')
        ORDER BY state DESC, started_at, id LIMIT 1) AS held;
