-- Quarantine: tenants on their error budget. cgk_tasks/flow/quarantine.py calls these; pauses are in pauses.sql.

-- name: are_there
SELECT EXISTS (SELECT FROM cgk.quarantines) AS yes;

-- name: over_budget
-- Active tenants of whose last runs too many failed. window: seconds; runs: so many at least; share: of them. Who has many failed
-- runs is found by their index, and only those tenants' runs are counted; what closed before a release does not count again.
WITH failing AS MATERIALIZED (
    SELECT h.tenant_id FROM cgk.run_history h
     WHERE h.state = 'failed' AND h.closed_at > now() - make_interval(secs => %(window)s)
     GROUP BY h.tenant_id HAVING count(*) >= %(share)s * %(runs)s
), counted AS (
    SELECT f.tenant_id, c.runs, c.failed
      FROM failing f
      JOIN cgk.tenants t ON t.id = f.tenant_id AND t.status = 'active' AND t.source <> 'platform'
      LEFT JOIN cgk.quarantines q ON q.tenant_id = f.tenant_id, LATERAL (
           SELECT count(*) AS runs, count(*) FILTER (WHERE h.state = 'failed') AS failed FROM cgk.run_history h
            WHERE h.tenant_id = f.tenant_id AND h.state IN ('completed', 'failed')
              AND h.closed_at > greatest(now() - make_interval(secs => %(window)s), q.released_at)) AS c
     WHERE (q.tenant_id IS NULL OR q.released_at IS NOT NULL)
       AND NOT EXISTS (SELECT FROM cgk.pauses p
                        WHERE p.tenant_id = f.tenant_id AND p.queue IS NULL AND p.event IS NULL)
)
SELECT tenant_id, runs, failed FROM counted WHERE runs >= %(runs)s AND failed >= %(share)s * runs ORDER BY tenant_id;

-- name: begin
INSERT INTO cgk.quarantines (tenant_id, until, runs, failed)
VALUES (%(tenant_id)s, %(until)s, %(runs)s, %(failed)s)
ON CONFLICT (tenant_id) DO UPDATE
   SET began_at = now(), until = EXCLUDED.until, runs = EXCLUDED.runs, failed = EXCLUDED.failed, released_at = NULL,
       paced_until = NULL;

-- name: note_released
-- Those whose pause is over or was ended by somebody. paced: seconds.
UPDATE cgk.quarantines q SET released_at = now(), paced_until = now() + make_interval(secs => %(paced)s)
 WHERE q.released_at IS NULL
   AND NOT EXISTS (SELECT FROM cgk.pauses p WHERE p.tenant_id = q.tenant_id AND p.queue IS NULL AND p.event IS NULL)
RETURNING q.tenant_id;

-- name: weigh
-- A tenth of its weight, until a tenant has shown that it may have all of it.
UPDATE cgk.shares s SET weight = wanted.weight
  FROM (SELECT q.tenant_id,
               coalesce(t.weight, 1) * CASE WHEN q.paced_until <= now() THEN 1 ELSE %(paced_share)s::float8 END AS weight
          FROM cgk.quarantines q LEFT JOIN cgk.tenant_limits_in_force t ON t.tenant_id = q.tenant_id) AS wanted
 WHERE s.tenant_id = wanted.tenant_id AND s.weight <> wanted.weight;

-- name: forget
-- Those that have their weight again, and whose runs from before are too old to be counted.
DELETE FROM cgk.quarantines
 WHERE paced_until <= now() AND released_at <= now() - make_interval(secs => %(window)s) RETURNING tenant_id;

-- name: list
SELECT tenant_id, began_at, until, runs, failed, released_at, paced_until, now() AS now FROM cgk.quarantines
 WHERE released_at IS NULL OR paced_until > now() ORDER BY began_at, tenant_id;

-- name: recent
-- Those that began in the last seconds.
SELECT tenant_id, extract(epoch FROM began_at)::bigint AS began, until, runs, failed FROM cgk.quarantines
 WHERE began_at > now() - make_interval(secs => %(seconds)s) ORDER BY began_at, tenant_id;

-- name: count
SELECT count(*) AS tenants FROM cgk.quarantines WHERE released_at IS NULL;

-- name: count_before
-- The same before cgk-tasks migrate.
SELECT 0::bigint AS tenants;
