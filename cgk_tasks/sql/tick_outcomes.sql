-- What became of the runs of schedules' ticks. cgk_tasks/runs/tick_outcomes.py counts, the pages of schedules read.

-- name: count
-- Of the ticks that are due to be counted, the oldest ones with about `most` runs together. Runs are found by their ids, those of all ticks
-- of a moment in one look. One statement sees a run that closes meanwhile once, open or closed. A tick's row is committed
-- together with its runs: where none is open any more, none will be. Its runs close after it: days before are left out.
WITH due AS MATERIALIZED (
    SELECT schedule, scheduled_for, floor(extract(epoch FROM scheduled_for) * 1000)::bigint AS ms
      FROM (SELECT schedule, scheduled_for, sum(runs) OVER (ORDER BY count_at, schedule, scheduled_for) - runs AS before
              FROM (SELECT schedule, scheduled_for, runs, count_at FROM cgk.schedule_ticks
                     WHERE count_at <= now() ORDER BY count_at LIMIT %(ticks)s) AS first) AS summed
     WHERE before < %(most)s
), moments AS MATERIALIZED (
    SELECT ms, array_agg(schedule) AS schedules FROM due GROUP BY ms
), found AS (
    SELECT r.schedule, r.scheduled_for, count(*) FILTER (WHERE r.is_open)::int AS open,
           count(*) FILTER (WHERE r.state = 'completed')::int AS completed,
           count(*) FILTER (WHERE r.state = 'failed')::int AS failed, count(*)::int AS runs
      FROM moments m, LATERAL (
           SELECT schedule, scheduled_for, state, true AS is_open FROM cgk.runs
            WHERE id >= {{id_from(m.ms)}} AND id < {{id_from(m.ms + 1)}} AND schedule = ANY(m.schedules)
           UNION ALL
           SELECT schedule, scheduled_for, state, false FROM cgk.run_history
            WHERE id >= {{id_from(m.ms)}} AND id < {{id_from(m.ms + 1)}} AND schedule = ANY(m.schedules)
              AND closed_at >= to_timestamp(m.ms / 1000.0) - interval '1 hour') AS r
     GROUP BY r.schedule, r.scheduled_for
)
UPDATE cgk.schedule_ticks t
   SET open = coalesce(f.open, 0), completed = greatest(t.completed, coalesce(f.completed, 0)),
       failed = greatest(t.failed, coalesce(f.failed, 0)),
       otherwise = greatest(t.otherwise, coalesce(f.runs - f.open - f.completed - f.failed, 0)), counted_at = now(),
       count_at = CASE WHEN f.open > 0 THEN now() + greatest(make_interval(secs => %(again)s), (now() - t.fired_at) * %(part)s::float8) END
  FROM due d LEFT JOIN found f USING (schedule, scheduled_for)
 WHERE t.schedule = d.schedule AND t.scheduled_for = d.scheduled_for
RETURNING t.schedule;

-- name: last
-- The last ticks of each of these schedules, the last one first; by the primary key.
SELECT k.schedule, k.scheduled_for, k.fired_at, k.by_hand, k.runs, k.suspended, k.switched_off, k.overlapping, k.given_up,
       k.open, k.completed, k.failed, k.otherwise, k.counted_at
  FROM unnest(%(schedules)b::text[]) AS s (name), LATERAL (
       SELECT * FROM cgk.schedule_ticks t WHERE t.schedule = s.name ORDER BY t.scheduled_for DESC LIMIT %(limit)s) AS k;

-- name: last_before
-- The same in a database that has not been migrated to the end yet.
SELECT k.schedule, k.scheduled_for, k.fired_at, k.by_hand, k.runs, k.suspended, k.switched_off, k.overlapping, k.given_up,
       NULL::int AS open, NULL::int AS completed, NULL::int AS failed, NULL::int AS otherwise, NULL::timestamptz AS counted_at
  FROM unnest(%(schedules)b::text[]) AS s (name), LATERAL (
       SELECT * FROM cgk.schedule_ticks t WHERE t.schedule = s.name ORDER BY t.scheduled_for DESC LIMIT %(limit)s) AS k;
