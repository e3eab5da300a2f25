-- Guards: limits that move with how a partner answers. Workers tell what they saw, the leader of the workers moves the gates under
-- the lock of passes. A guard's gate is a gate like others, so passes know nothing of guards. cgk_tasks/admission/ calls these.

-- name: declare
-- What the code declares. Returns the guard if it is new, or declared otherwise than before. One that was for each tenant and is
-- for all now, or the other way round, is another one.
WITH other AS (
    DELETE FROM cgk.guards WHERE name = %(name)s AND rule_id <> (SELECT id FROM cgk.rules WHERE name = %(rule)s)
)
INSERT INTO cgk.guards AS known (rule_id, name, per, at_once, probe_after)
SELECT id, %(name)s, %(per)s, %(at_once)s, %(probe_after)s FROM cgk.rules WHERE name = %(rule)s
ON CONFLICT (rule_id) DO UPDATE SET at_once = EXCLUDED.at_once, probe_after = EXCLUDED.probe_after, declared_at = now()
 WHERE (known.at_once, known.probe_after) <> (EXCLUDED.at_once, EXCLUDED.probe_after)
RETURNING rule_id;

-- name: keep_to_most
-- A gate that has not moved lets through what is declared; the others no more than that.
UPDATE cgk.gates g
   SET at_once = CASE WHEN EXISTS (SELECT FROM cgk.guard_states s WHERE s.gate_id = g.id)
                      THEN least(g.at_once, %(at_once)s) ELSE %(at_once)s END
  FROM cgk.rules r WHERE r.name = %(rule)s AND g.rule_id = r.id;

-- name: report
-- What a process saw: of each gate since its last report. Not flushed: what a crash forgets is told again by the partner.
INSERT INTO cgk.guard_reports (gate_id, successes, others, failures, all_failures, asked, asked_at, until)
SELECT g.id, seen.successes, seen.others, seen.failures, seen.all_failures, seen.asked,
       clock_timestamp() - make_interval(secs => seen.ago), clock_timestamp() + make_interval(secs => seen.closed_for)
  FROM unnest(%(rule)b::text[], %(key)b::text[], %(successes)s::int[], %(others)s::int[], %(failures)s::int[],
              %(all_failures)s::int[], %(asked)s::int[], %(ago)s::float8[], %(closed_for)s::float8[])
           AS seen (rule, key, successes, others, failures, all_failures, asked, ago, closed_for)
  JOIN cgk.rules r ON r.name = seen.rule, LATERAL (
       SELECT id FROM cgk.gates WHERE rule_id = r.id AND key = seen.key OFFSET 0) AS g
 WHERE (SELECT set_config('synchronous_commit', 'off', true)) IS NOT NULL;

-- name: are_declared
SELECT EXISTS (SELECT FROM cgk.guards) AS yes;

-- name: are_reported
SELECT EXISTS (SELECT FROM cgk.guard_reports) AS yes;

-- fragment: state
coalesce(s.state, 'open') AS state, coalesce(s.limit_now, d.at_once)::float8 AS limit_now, coalesce(s.failures, 0) AS failures,
       coalesce(s.closures, 0) AS closures, coalesce(extract(epoch FROM s.opens_at), 0)::float8 AS opens_at

-- name: take_reports
-- The first reports, in their order, with the guards as they are. Those of a gate that is gone are about nothing.
WITH taken AS (
    DELETE FROM cgk.guard_reports WHERE id = ANY(ARRAY(SELECT id FROM cgk.guard_reports ORDER BY id LIMIT %(limit)s))
    RETURNING *
)
SELECT t.gate_id, d.name, g.key, d.at_once AS most, d.probe_after, {{state}},
       t.successes AS seen_successes, t.others AS seen_others, t.failures AS seen_failures,
       t.all_failures AS seen_all_failures, t.asked AS seen_asked,
       extract(epoch FROM t.asked_at)::float8 AS seen_asked_at, extract(epoch FROM t.until)::float8 AS seen_until,
       extract(epoch FROM clock_timestamp())::float8 AS now
  FROM taken t JOIN cgk.gates g ON g.id = t.gate_id JOIN cgk.guards d ON d.rule_id = g.rule_id
  LEFT JOIN cgk.guard_states s ON s.gate_id = t.gate_id
 ORDER BY t.id;

-- name: put_states
-- closes: whether it was closed just now. What was admitted before that goes back.
INSERT INTO cgk.guard_states AS known (gate_id, state, limit_now, failures, closures, opens_at, closed_at, asked, failed)
SELECT p.gate_id, p.state, p.limit_now, p.failures, p.closures, to_timestamp(p.opens_at),
       CASE WHEN p.closes THEN clock_timestamp() END, p.asked, p.failed
  FROM unnest(%(gate_id)s::bigint[], %(state)b::text[], %(limit_now)s::float8[], %(failures)s::int[], %(closures)s::int[],
              %(opens_at)s::float8[], %(closes)b::bool[], %(asked)s::bigint[], %(failed)s::bigint[])
           AS p (gate_id, state, limit_now, failures, closures, opens_at, closes, asked, failed)
ON CONFLICT (gate_id) DO UPDATE
   SET state = EXCLUDED.state, limit_now = EXCLUDED.limit_now, failures = EXCLUDED.failures, closures = EXCLUDED.closures,
       opens_at = EXCLUDED.opens_at, closed_at = coalesce(EXCLUDED.closed_at, known.closed_at),
       asked = known.asked + EXCLUDED.asked, failed = known.failed + EXCLUDED.failed, moved_at = now(),
       shut_by = CASE WHEN EXCLUDED.state = 'shut' THEN known.shut_by ELSE '' END,
       reason = CASE WHEN EXCLUDED.state = 'shut' THEN known.reason ELSE '' END;

-- name: move_gates
-- As the guards are now. While one fails, its gate is a bucket with room for one run in a time: that is the probe, and no
-- other starts before something is known of it. A gate that is open again is looked at at once.
UPDATE cgk.gates g
   SET at_once = p.at_once, rate = CASE WHEN p.is_probed THEN 1 END, burst = CASE WHEN p.is_probed THEN 1 END,
       period = CASE WHEN p.is_probed THEN p.probe_after END, tat = '2000-01-01Z',
       opens_at = CASE WHEN to_timestamp(p.opens_at) > clock_timestamp() THEN to_timestamp(p.opens_at)
                       WHEN g.opens_at IS NOT NULL THEN clock_timestamp() END
  FROM unnest(%(gate_id)s::bigint[], %(at_once)s::int[], %(is_probed)b::bool[], %(probe_after)s::float8[], %(opens_at)s::float8[])
           AS p (gate_id, at_once, is_probed, probe_after, opens_at)
 WHERE g.id = ANY(%(gate_id)s::bigint[]) AND g.id = p.gate_id;

-- name: forget_states
-- Of gates that nobody has used for so long that they are gone.
DELETE FROM cgk.guard_states s WHERE NOT EXISTS (SELECT FROM cgk.gates g WHERE g.id = s.gate_id);

-- name: admitted
-- As in admission.sql, for runs that use guards. is_refused: a guard was closed after the run was admitted.
SELECT r.id::text, l.gates,
       EXISTS (SELECT FROM unnest(l.gates) AS passed (id), LATERAL (
                      SELECT closed_at FROM cgk.guard_states WHERE gate_id = passed.id OFFSET 0) AS s, LATERAL (
                      SELECT opens_at FROM cgk.gates WHERE id = passed.id OFFSET 0) AS g
                WHERE s.closed_at > r.admitted_at AND g.opens_at > clock_timestamp() OFFSET 0) AS is_refused
  FROM cgk.runs r, LATERAL (SELECT gates FROM cgk.lanes WHERE id = r.lane_id OFFSET 0) AS l
 WHERE r.id = ANY(%(ids)s::uuid[]) AND {{has_slot}};

-- fragment: shown
d.name, d.per, g.key, d.at_once AS most, d.probe_after, {{state}}, s.opens_at AS opens, s.closed_at, s.shut_by, s.reason,
       coalesce(s.asked, 0) AS asked, coalesce(s.failed, 0) AS failed, s.moved_at, now() AS now

-- name: list
-- Guards with their gates that have moved; those of which none has once. Of one per tenant those that are not as declared.
SELECT {{shown}}
  FROM cgk.guards d
  LEFT JOIN (cgk.gates g JOIN cgk.guard_states s ON s.gate_id = g.id)
         ON g.rule_id = d.rule_id AND (d.per = 'all' OR s.state <> 'open' OR s.limit_now < d.at_once)
 WHERE (%(name)s::text IS NULL OR d.name = %(name)s) AND (%(key)s::text IS NULL OR g.key = %(key)s)
 ORDER BY d.name, g.key LIMIT %(limit)s;

-- name: of_gate
SELECT {{shown}}
  FROM cgk.gates g JOIN cgk.guards d ON d.rule_id = g.rule_id LEFT JOIN cgk.guard_states s ON s.gate_id = g.id
 WHERE g.id = %(gate_id)s;

-- name: find
SELECT rule_id, name, per, at_once, probe_after FROM cgk.guards WHERE name = %(name)s;

-- name: names
SELECT name FROM cgk.guards ORDER BY name;

-- name: note_hand
-- Who closed the guard by hand, and why.
UPDATE cgk.guard_states SET shut_by = %(by)s, reason = %(reason)s WHERE gate_id = %(gate_id)s;

-- name: metrics
SELECT d.name, min(coalesce(CASE WHEN s.state = 'failing' THEN 1 ELSE floor(s.limit_now) END, d.at_once))::float8 AS limit_now,
       count(*) FILTER (WHERE s.state = 'failing' OR s.state <> 'open' AND s.opens_at > now()) AS closed,
       coalesce(sum(s.asked), 0)::bigint AS asked, coalesce(sum(s.failed), 0)::bigint AS failed
  FROM cgk.guards d LEFT JOIN (cgk.gates g JOIN cgk.guard_states s ON s.gate_id = g.id) ON g.rule_id = d.rule_id
 GROUP BY d.name ORDER BY d.name;

-- name: no_metrics
-- The same before cgk-tasks migrate.
SELECT ''::text AS name, 0::float8 AS limit_now, 0::bigint AS closed, 0::bigint AS asked, 0::bigint AS failed WHERE false;
