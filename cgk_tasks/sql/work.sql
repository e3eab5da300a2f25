-- What the dashboard's pages of events and jobs show, read from what the leader has counted. cgk_tasks/dashboard/data/work.py calls
-- these.

-- name: progress
SELECT sure_until, by_work_since FROM cgk.count_progress;

-- fragment: of_work
event = ANY(%(events)b::text[]) AND (%(job)s::text IS NULL OR job = %(job)s) AND {{counted_since}}

-- name: counts
-- By bars of so many seconds. job: NULL for all runs of the events.
SELECT date_bin(make_interval(secs => %(bar)s::float8), begin, '2000-01-01Z') AS begin, sum(accepted)::bigint AS accepted,
       sum(started)::bigint AS started, sum(retried)::bigint AS retried, sum(closed)::bigint AS closed,
       sum(completed)::bigint AS completed, sum(failed)::bigint AS failed, sum(cancelled)::bigint AS cancelled
  FROM cgk.work_counts WHERE {{of_work}} GROUP BY 1 ORDER BY 1;

-- name: times
-- By bar and length of time.
SELECT date_bin(make_interval(secs => %(bar)s::float8), begin, '2000-01-01Z') AS begin, bucket, sum(ran)::bigint AS ran,
       sum(waited)::bigint AS waited
  FROM cgk.work_times WHERE {{of_work}} GROUP BY 1, 2;

-- name: events_of_job
SELECT DISTINCT event FROM cgk.work_counts WHERE job = %(job)s;

-- name: of_events
SELECT event, sum(accepted)::bigint AS accepted, sum(completed)::bigint AS completed, sum(failed)::bigint AS failed
  FROM cgk.work_counts WHERE {{counted_since}} GROUP BY event;

-- name: of_jobs
SELECT job, array_agg(DISTINCT event) AS events, sum(completed)::bigint AS completed, sum(failed)::bigint AS failed
  FROM cgk.work_counts WHERE job <> '' AND {{counted_since}} GROUP BY job;

-- name: times_of_jobs
SELECT job, bucket, sum(ran)::bigint AS ran FROM cgk.work_times WHERE job <> '' AND {{counted_since}} GROUP BY job, bucket;

-- name: tenant_schedules
-- How many schedules that tenants made send an event.
SELECT count(*) AS schedules FROM cgk.tenant_schedules WHERE event = %(event)s;
