-- What is set on record for plans, tenants and jobs, beside what the code declares. cgk_tasks/flow/plans.py and job_limits.py
-- change it, each change under the lock of passes and in the transaction of its line in the audit.

-- name: lock
-- Passes, and those who make gates, wait meanwhile. A statement of its own: the next one's snapshot has what they have done.
SELECT pg_advisory_xact_lock(4216201003) IS NULL AS no, set_config('idle_in_transaction_session_timeout', '5s', true);

-- name: next_version
-- Changes come one after another: the row is kept until the commit.
UPDATE cgk.flow_changes SET version = version + 1 RETURNING version;

-- name: running
-- Runs that workers hold, with the gates at which they have a place. Those that end just now are left out.
SELECT r.id::text, r.queue, r.tenant_id, r.event, r.priority, r.deaths, r.worker_id::text, r.worker_pid,
       coalesce(CASE WHEN r.slot IS NOT NULL AND r.admitted_at = r.handed_over_at
                     THEN (SELECT l.gates FROM cgk.lanes l WHERE l.id = r.lane_id) END, '{}') AS gates
  FROM cgk.runs r
 WHERE r.state = 'running' AND r.worker_id IS NOT NULL AND r.handed_over_at IS NOT NULL
   AND (%(tenants)b::text[] IS NULL OR r.tenant_id = ANY(%(tenants)b::text[]))
   AND (%(event)s::text IS NULL OR r.event = %(event)s)
   AND (%(job)s::text IS NULL OR r.job IS NULL OR r.job = %(job)s)
 ORDER BY r.id FOR UPDATE SKIP LOCKED;

-- name: plans
SELECT p.*, (SELECT count(*) FROM cgk.tenant_limits t WHERE t.plan = p.name) AS tenants FROM cgk.plans p ORDER BY name;

-- name: get_plan
SELECT * FROM cgk.plans WHERE name = %(name)s;

-- name: put_plan
INSERT INTO cgk.plans (name, weight, at_once, starts, period, burst, daily_runs, max_waiting, changed_by)
VALUES (%(name)s, %(weight)s, %(at_once)s, %(starts)s, %(period)s, %(burst)s, %(daily_runs)s, %(max_waiting)s, %(by)s)
ON CONFLICT (name) DO UPDATE
   SET weight = EXCLUDED.weight, at_once = EXCLUDED.at_once, starts = EXCLUDED.starts, period = EXCLUDED.period,
       burst = EXCLUDED.burst, daily_runs = EXCLUDED.daily_runs, max_waiting = EXCLUDED.max_waiting, changed_at = now(),
       changed_by = EXCLUDED.changed_by;

-- name: remove_plan
DELETE FROM cgk.plans WHERE name = %(name)s RETURNING *;

-- name: tenants_of_plan
-- Up to so many of them.
SELECT tenant_id FROM cgk.tenant_limits WHERE plan = %(plan)s ORDER BY tenant_id LIMIT %(limit)s;

-- name: touch_tenants_of_plan
-- What is in force for them has changed.
UPDATE cgk.tenant_limits SET version = %(version)s WHERE plan = %(plan)s RETURNING tenant_id;

-- name: get_tenant
SELECT * FROM cgk.tenant_limits WHERE tenant_id = %(tenant_id)s;

-- name: put_tenant
INSERT INTO cgk.tenant_limits (tenant_id, plan, weight, at_once, starts, period, burst, daily_runs, max_waiting, version,
                               changed_by)
VALUES (%(tenant_id)s, %(plan)s, %(weight)s, %(at_once)s, %(starts)s, %(period)s, %(burst)s, %(daily_runs)s,
        %(max_waiting)s, %(version)s, %(by)s)
ON CONFLICT (tenant_id) DO UPDATE
   SET plan = EXCLUDED.plan, weight = EXCLUDED.weight, at_once = EXCLUDED.at_once, starts = EXCLUDED.starts,
       period = EXCLUDED.period, burst = EXCLUDED.burst, daily_runs = EXCLUDED.daily_runs,
       max_waiting = EXCLUDED.max_waiting, version = EXCLUDED.version, changed_at = now(), changed_by = EXCLUDED.changed_by;

-- name: weigh_shares
-- The shares of these tenants in all queues.
UPDATE cgk.shares s SET weight = t.weight
  FROM cgk.tenant_limits_in_force t
 WHERE t.tenant_id = s.tenant_id AND t.tenant_id = ANY(%(tenants)b::text[]) AND s.weight <> t.weight;

-- name: limited_at_once
-- Those of these tenants that may have so many runs on at once.
SELECT tenant_id FROM cgk.tenant_limits_in_force WHERE tenant_id = ANY(%(tenants)b::text[]) AND at_once IS NOT NULL;

-- name: in_force
-- Of one tenant: what is set for itself, and for its plan.
SELECT t.tenant_id, t.plan, t.weight, t.at_once, t.starts, t.period, t.daily_runs, t.max_waiting,
       p.weight AS plan_weight, p.at_once AS plan_at_once, p.starts AS plan_starts, p.period AS plan_period,
       p.daily_runs AS plan_daily_runs, p.max_waiting AS plan_max_waiting
  FROM cgk.tenant_limits t LEFT JOIN cgk.plans p ON p.name = t.plan
 WHERE t.tenant_id = %(tenant_id)s;

-- name: changed_tenants
-- Those about whom something has changed since a version, with what a process must know of them.
SELECT tenant_id, at_once IS NOT NULL AS is_at_once, starts IS NOT NULL AS is_throttled, daily_runs, max_waiting
  FROM cgk.tenant_limits_in_force WHERE version > %(version)s;

-- name: set_rules
-- Limits that are set for jobs.
SELECT tenant_id, job, event, is_only_job, kind, per, key_field FROM cgk.job_limits ORDER BY rule, tenant_id;

-- name: job_limits
SELECT rule, tenant_id, job, event, kind, per, key_field, at_once, lend_to, rate, period, burst, changed_at, changed_by,
       reason
  FROM cgk.job_limits
 WHERE (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s) AND (%(job)s::text IS NULL OR job = %(job)s)
 ORDER BY job, rule, tenant_id;

-- name: declared_limits
-- Limits of jobs as workers have noted them.
SELECT name AS rule, job, kind, per, key_field, declared FROM cgk.rules
 WHERE job <> '' AND declared::text <> '{}' ORDER BY job, name;

-- name: get_job_limit
SELECT at_once, lend_to, rate, period, burst FROM cgk.job_limits WHERE rule = %(rule)s AND tenant_id = %(tenant_id)s;

-- name: put_job_limit
INSERT INTO cgk.job_limits (rule, tenant_id, job, event, is_only_job, kind, per, key_field, at_once, lend_to, rate, period,
                            burst, changed_by, reason)
VALUES (%(rule)s, %(tenant_id)s, %(job)s, %(event)s, %(is_only_job)s, %(kind)s, %(per)s, %(key_field)s, %(at_once)s,
        %(lend_to)s, %(rate)s, %(period)s, %(burst)s, %(by)s, %(reason)s)
ON CONFLICT (rule, tenant_id) DO UPDATE
   SET event = EXCLUDED.event, is_only_job = EXCLUDED.is_only_job, at_once = EXCLUDED.at_once, lend_to = EXCLUDED.lend_to,
       rate = EXCLUDED.rate, period = EXCLUDED.period, burst = EXCLUDED.burst, changed_at = now(),
       changed_by = EXCLUDED.changed_by, reason = EXCLUDED.reason;

-- name: remove_job_limits
DELETE FROM cgk.job_limits
 WHERE job = %(job)s AND tenant_id = %(tenant_id)s AND (%(rule)s::text IS NULL OR rule = %(rule)s)
RETURNING rule, at_once, lend_to, rate, period, burst;

-- name: executed
-- What living and silent workers say that they execute: an event, or `event:job`.
SELECT DISTINCT unnest(executes) AS name FROM cgk.workers WHERE executes IS NOT NULL;

-- name: history
-- Lines of the audit about limits, the newest first.
SELECT at, who, via, action, subject, tenant_id, message AS reason, details FROM cgk.audit
 WHERE action = ANY(%(actions)b::text[])
   AND (%(subject)s::text IS NULL OR subject = %(subject)s)
   AND (%(tenant_id)s::text IS NULL OR tenant_id = %(tenant_id)s)
 ORDER BY id DESC LIMIT %(limit)s;

-- name: count_waiting
-- How many runs of a tenant are due and have not begun. Of those in lanes, and held elsewhere in these queues, no more are
-- counted than the limit. Of those that are dispatched, so many are looked at, of all tenants: the window holds no more. All
-- are in the order of their indexes, and a tenant is a range, else PostgreSQL might read all of the table for them.
SELECT (SELECT count(*) FROM (
            SELECT FROM cgk.shares s, LATERAL (SELECT id FROM cgk.lanes WHERE share_id = s.id OFFSET 0) AS l, LATERAL (
                SELECT FROM cgk.runs WHERE lane_id = l.id AND state = 'held' ORDER BY rank LIMIT %(limit)s) AS r
             WHERE s.tenant_id = %(tenant_id)s LIMIT %(limit)s) AS in_lanes)
     + (SELECT count(*) FROM (
            SELECT FROM unnest(%(queues)b::text[]) AS q (queue), LATERAL (
                SELECT FROM cgk.runs
                 WHERE state = 'held' AND lane_id IS NULL AND runs.queue = q.queue
                   AND tenant_id BETWEEN %(tenant_id)s AND %(tenant_id)s
                 ORDER BY tenant_id LIMIT %(limit)s) AS r
             LIMIT %(limit)s) AS elsewhere)
     + (SELECT count(*) FILTER (WHERE tenant_id = %(tenant_id)s) FROM (
            SELECT tenant_id FROM cgk.runs WHERE state = 'pending' AND handed_over_at IS NOT NULL
             ORDER BY queue, priority, handed_over_at LIMIT %(looked_at)s) AS dispatched) AS runs;

-- name: count_send
-- So many runs more are sent for a tenant today, if it may have so many. Not flushed: what a crash forgets is sent for nothing.
INSERT INTO cgk.runs_of_days AS known (tenant_id, day, runs)
SELECT %(tenant_id)s, (now() AT TIME ZONE 'UTC')::date, %(runs)s
  FROM (SELECT set_config('synchronous_commit', 'off', true)) AS unflushed
ON CONFLICT (tenant_id, day) DO UPDATE SET runs = known.runs + EXCLUDED.runs WHERE known.runs + EXCLUDED.runs <= %(limit)s
RETURNING runs;

-- name: until_tomorrow
-- Seconds until the day of UTC is over.
SELECT extract(epoch FROM date_trunc('day', now() AT TIME ZONE 'UTC') + interval '1 day' - now() AT TIME ZONE 'UTC')::float8
           AS seconds;

-- name: uncount_send
-- Runs that were not made. On the day before, should it be over since, it does not matter.
UPDATE cgk.runs_of_days SET runs = greatest(0, runs - %(runs)s)
 WHERE tenant_id = %(tenant_id)s AND day = (now() AT TIME ZONE 'UTC')::date;

-- name: known_keys
-- Those of these idempotency keys that belong to an earlier run.
SELECT event, key FROM cgk.idempotency_keys
  JOIN unnest(%(tenant_id)b::text[], %(event)b::text[], %(key)b::text[]) AS wanted (tenant_id, event, key)
 USING (tenant_id, event, key)
 WHERE expires_at > now();

-- name: forget_days
DELETE FROM cgk.runs_of_days WHERE day < (now() AT TIME ZONE 'UTC')::date - 1;
