-- What runs remember of their steps. Each statement that writes is fenced: only the attempt that owns the run may.

-- fragment: owned
r.id = %(id)s::uuid AND {{is('running')}} AND r.attempt = %(attempt)s
AND NOT r.worker_id IS DISTINCT FROM %(worker_id)s::uuid

-- fragment: step
-- The columns of a step that its run decides.
run_id, name, nth, place, kind, state, tenant_id, key_id, sealed_result, sealed_error, attempts, awaits, wake_at, begun_at,
ended_at

-- fragment: values
-- What is stored of given steps. wake_at: of those that wait, and of those that are tried again. awaits: names of mail, a
-- line each. When a step began, and when it ended if it is over.
%(id)s::uuid, name, nth, place, kind, state, %(tenant_id)s::text, %(key_id)s::text, sealed_result, sealed_error, attempts,
CASE WHEN awaits <> '' THEN string_to_array(awaits, E'\n') END,
CASE WHEN until IS NOT NULL THEN until
     WHEN delay_seconds IS NOT NULL THEN now() + make_interval(secs => delay_seconds)
     WHEN state = 'waiting' THEN 'infinity' END,
clock_timestamp() - make_interval(secs => seconds),
CASE WHEN state IN ('done', 'failed', 'timed_out') THEN clock_timestamp() END

-- fragment: or_go_on
-- A step that is over stays as it is: whoever comes second takes what the first has kept.
ON CONFLICT (run_id, name, nth) DO UPDATE
   SET state = EXCLUDED.state, sealed_result = EXCLUDED.sealed_result, sealed_error = EXCLUDED.sealed_error,
       attempts = EXCLUDED.attempts, awaits = EXCLUDED.awaits, wake_at = EXCLUDED.wake_at, ended_at = EXCLUDED.ended_at
 WHERE known.state IN ('begun', 'waiting', 'intent')

-- name: load_steps
-- A run's steps in the order in which they began. begun_at: of those that go on. A wait that only its mail can end has no
-- wake_at here.
SELECT name, nth, place, kind, state, key_id, sealed_result, sealed_error, attempts,
       CASE WHEN state IN ('begun', 'intent') THEN begun_at END AS begun_at,
       CASE WHEN isfinite(wake_at) THEN wake_at END AS wake_at, coalesce(wake_at <= now(), false) AS is_due
  FROM cgk.steps WHERE run_id = %(id)s::uuid ORDER BY place;

-- name: find_step
-- A step that is over, if the attempt still owns the run.
SELECT s.name, s.nth, s.place, s.kind, s.state, s.key_id, s.sealed_result, s.sealed_error, s.attempts, s.begun_at,
       NULL::timestamptz AS wake_at, false AS is_due
  FROM cgk.steps s JOIN cgk.runs r ON r.id = s.run_id
 WHERE s.run_id = %(id)s::uuid AND s.name = %(name)s AND s.nth = %(nth)s AND s.state IN ('done', 'failed', 'timed_out')
   AND {{owned}};

-- name: keep_step
-- Waits for the disk, and so for all that was committed before: what comes next may rest on it.
INSERT INTO cgk.steps AS known ({{step}})
SELECT {{values}}
  FROM (SELECT %(name)s::text AS name, %(nth)s::int AS nth, %(place)s::int AS place, %(kind)s::text AS kind,
               %(state)s::text AS state, %(sealed_result)s::bytea AS sealed_result, %(sealed_error)s::bytea AS sealed_error,
               %(attempts)s::int AS attempts, %(awaits)s::text AS awaits, %(until)s::timestamptz AS until,
               %(delay_seconds)s::float8 AS delay_seconds, %(seconds)s::float8 AS seconds) AS given
 WHERE EXISTS (SELECT FROM cgk.runs r WHERE {{owned}})
{{or_go_on}}
RETURNING name, nth;

-- name: keep_steps
-- Several together.
INSERT INTO cgk.steps AS known ({{step}})
SELECT {{values}}
  FROM unnest(%(name)b::text[], %(nth)b::int[], %(place)b::int[], %(kind)b::text[], %(state)b::text[],
              %(sealed_result)b::bytea[], %(sealed_error)b::bytea[], %(attempts)b::int[], %(awaits)b::text[],
              %(until)b::timestamptz[], %(delay_seconds)b::float8[], %(seconds)b::float8[])
       AS given (name, nth, place, kind, state, sealed_result, sealed_error, attempts, awaits, until, delay_seconds,
                 seconds)
 WHERE EXISTS (SELECT FROM cgk.runs r WHERE {{owned}})
{{or_go_on}}
RETURNING name, nth;

-- name: note_undo
-- That runs are to be undone. How it was said first counts.
INSERT INTO cgk.steps (run_id, name, nth, place, kind, state, tenant_id, key_id, sealed_result)
SELECT id, '$undo', 1, 0, 'undo', 'begun', tenant_id, key_id, sealed_result
  FROM unnest(%(id)s::uuid[], %(tenant_id)b::text[], %(key_id)b::text[], %(sealed_result)b::bytea[])
       AS u (id, tenant_id, key_id, sealed_result)
ON CONFLICT DO NOTHING;

-- name: first_of_name
-- The first step of a name that a function has asked for, of a run that has ended.
SELECT s.place, s.kind FROM cgk.steps s
 WHERE s.run_id = %(id)s::uuid AND s.name = %(name)s AND s.kind <> ALL(%(internal)s::text[])
 ORDER BY s.nth LIMIT 1;

-- name: names_of_steps
SELECT s.name FROM cgk.steps s
 WHERE s.run_id = %(id)s::uuid AND s.kind <> ALL(%(internal)s::text[])
 GROUP BY s.name ORDER BY min(s.place);

-- name: copy_steps
-- Gives a run what another one has remembered before a step; and whether that was to be undone, if the step is one of those
-- that undo it.
INSERT INTO cgk.steps ({{step}})
SELECT %(to_id)s::uuid, name, nth, place, kind, state, tenant_id, key_id, sealed_result, sealed_error,
       CASE WHEN kind = 'begin' THEN 0 ELSE attempts END, awaits, wake_at, begun_at, ended_at
  FROM cgk.steps
 WHERE run_id = %(id)s::uuid
   AND (kind = 'begin' OR (kind IN ('undo', 'compensates') AND %(undoes)s)
        OR (kind <> ALL(%(internal)s::text[]) AND place < %(place)s AND state IN ('done', 'failed', 'timed_out')));

-- name: steps_to_show
-- Of many, the first and the last ones, and so many of those between them that are not done. number: among all, in their
-- order; steps: how many there are.
WITH numbered AS (
    SELECT name, nth, kind, state, tenant_id, key_id, sealed_result, sealed_error, attempts, awaits, wake_at, begun_at,
           ended_at, row_number() OVER (ORDER BY place, nth) AS number, count(*) OVER () AS steps,
           count(*) FILTER (WHERE state <> 'done') OVER (ORDER BY place, nth) AS undone
      FROM cgk.steps WHERE run_id = %(id)s::uuid AND kind <> ALL(%(internal)s::text[])
)
SELECT name, nth, kind, state, tenant_id, key_id, sealed_result AS sealed_step_result,
       sealed_error AS sealed_step_error, attempts, awaits, CASE WHEN isfinite(wake_at) THEN wake_at END AS wake_at,
       begun_at, ended_at, number, steps
  FROM numbered
 WHERE number <= %(first)s OR number > steps - %(last)s OR (state <> 'done' AND undone <= %(undone)s)
 ORDER BY number;

-- name: waiting_workflows
SELECT r.id::text, r.tenant_id, r.event, r.job, s.name, s.kind, s.awaits, s.begun_at AS since,
       CASE WHEN isfinite(s.wake_at) THEN s.wake_at END AS until
  FROM cgk.runs r JOIN cgk.steps s ON s.run_id = r.id AND s.state = 'waiting'
 WHERE r.state IN ('scheduled', 'retrying') AND (%(tenant_id)s::text IS NULL OR r.tenant_id = %(tenant_id)s)
   AND (%(job)s::text IS NULL OR r.job = %(job)s)
 ORDER BY r.id, s.place LIMIT %(limit)s;
