"""What stands beside the runs on a dashboard that is in use: schedules with their ticks, schedules of tenants, workers
at work, an audit.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from cgk_tasks.schedules.lookup import all_schedules
from cgk_tasks.schedules.schedule import PLATFORM
from cgk_tasks.sql.postgres import autocommit, execute, fetch

TICKED = "subscription.dailyBilling"
"""The schedule whose last tick has its runs on record."""

# Every entry is known to beat, has a job, and has ticked for each tenant; each tenth tick has failed runs.
SCHEDULES = """
INSERT INTO cgk.schedules (name, event, cron, timezone, is_enabled, seeded_cron, seeded_timezone, seeded_enabled,
                           done_until)
SELECT name, event, cron, timezone, true, cron, timezone, true, now()
  FROM unnest(%(names)s::text[], %(events)s::text[], %(crons)s::text[], %(zones)s::text[])
       AS s (name, event, cron, timezone)
"""
HANDLED = "INSERT INTO cgk.job_events (event) SELECT DISTINCT unnest(%(events)s::text[]) ON CONFLICT DO NOTHING"
TICKS = """
INSERT INTO cgk.schedule_ticks (schedule, scheduled_for, fired_at, runs, open, completed, failed, otherwise, counted_at,
                                count_at)
SELECT s.name, at, at, reached, 0, reached - CASE WHEN n %% 10 = 0 THEN least(reached, 5) ELSE 0 END,
       CASE WHEN n %% 10 = 0 THEN least(reached, 5) ELSE 0 END, 0, now(), NULL
  FROM unnest(%(names)s::text[], %(reached)s::int[]) AS s (name, reached), generate_series(1, %(ticks)s) AS n,
       LATERAL (SELECT date_trunc('hour', now()) - make_interval(hours => n) AS at) AS moment
"""
# The tenants of which runs are there: every twentieth has switched the schedule off, and some were not reached.
OVERRIDES = """
INSERT INTO cgk.schedule_overrides (schedule, tenant_id, is_off, shift_seconds)
SELECT s.name, t.id, n %% 2 = 0, n %% 2 * 600
  FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM cgk.tenants WHERE source <> 'platform') AS t,
       unnest(%(names)s::text[]) AS s (name)
 WHERE n %% 20 = 0
"""
RUNS_OF_TICK = """
INSERT INTO cgk.run_history (id, tenant_id, event, state, queue, priority, sealed_payload, attempt, run_at, created_at,
                             started_at, closed_at, schedule, scheduled_for)
SELECT cgk.tick_run_id(k.schedule, t.id, k.scheduled_for), t.id, %(event)s, 'completed', 'cgk', 5,
       convert_to(json_build_object('tenantId', t.id)::text, 'UTF8'), 1, k.scheduled_for, k.scheduled_for,
       k.scheduled_for + interval '1 second', k.scheduled_for + interval '2 seconds', k.schedule, k.scheduled_for
  FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM cgk.tenants WHERE source <> 'platform') AS t,
       (SELECT * FROM cgk.schedule_ticks WHERE schedule = %(schedule)s ORDER BY scheduled_for DESC LIMIT 1) AS k
 WHERE n %% 20 <> 0 AND n %% 101 <> 0
"""
OF_TENANTS = """
INSERT INTO cgk.tenant_schedules (id, tenant_id, event, cron, timezone, misfire, overlap, max_age, dedup_key, is_paused,
                                  done_until, next_at, sealed_payload)
SELECT gen_random_uuid(), t.id, 'email.send', '0 7 * * *', 'Europe/Berlin', 'latest', 'skip', 3600, 'report-' || n,
       n %% 7 = 0, now(), now() + interval '1 day' * random(),
       convert_to(json_build_object('tenantId', t.id, 'to', 'ada@example.com', 'note', repeat('x', 200))::text, 'UTF8')
  FROM cgk.tenants t, generate_series(1, %(each)s) AS n
 WHERE t.source <> 'platform'
"""
WORKERS = """
INSERT INTO cgk.workers (id, name, pid, queues, heartbeat_at, executes, revision, processes, pool_size, memory)
SELECT id, 'celery@node-' || n, 1000 + n, ARRAY['cgk', 'exports', 'bulk'], now() + interval '1 day', '{}', '0032',
       %(processes)s, %(processes)s,
       (SELECT jsonb_object_agg(p, 90000000 + p) FROM generate_series(1, %(processes)s) AS p)
  FROM unnest(%(workers)s::uuid[]) WITH ORDINALITY AS w (id, n)
"""
AT_WORK = """
INSERT INTO cgk.runs (id, tenant_id, event, job, state, queue, priority, sealed_payload, attempt, run_at, created_at,
                      handed_over_at, hand_overs, started_at, worker_id, worker_pid)
SELECT (lpad(to_hex(floor(extract(epoch FROM now()) * 1000)::bigint - n * 100 - p), 12, '0') || '7'
        || substr(md5(w.id::text || p), 1, 3) || 'a' || substr(md5(random()::text), 1, 15))::uuid,
       'shop-' || 1 + (n * 7 + p) %% %(tenants)s, 'order.created', 'job-of-order.created', 'running', 'cgk', 5,
       convert_to(json_build_object('tenantId', 'shop-' || 1 + (n * 7 + p) %% %(tenants)s)::text, 'UTF8'), 1, now(),
       now(), now(), 1, now(), w.id, p
  FROM unnest(%(workers)s::uuid[]) WITH ORDINALITY AS w (id, n), generate_series(1, %(processes)s) AS p
"""
AUDIT = """
INSERT INTO cgk.audit (at, who, role, action, subject, tenant_id, expected, affected, outcome, details)
SELECT now() - make_interval(mins => %(lines)s - n), 'ada', 'operator',
       (ARRAY['retry run', 'pause queue', 'send', 'suspend tenant', 'retry matching runs'])[1 + n %% 5],
       CASE WHEN n %% 5 = 4 THEN 'event:order.created state:failed' ELSE 'subject-' || n END, 'shop-' || n %% 1000,
       CASE WHEN n %% 5 = 4 THEN 5000 END, 5000, 'done',
       CASE WHEN n %% 5 = 4 THEN '{"search": "event:order.created state:failed", "pace": 20, "left": {"again": 12}}'
            ELSE '{}' END::jsonb
  FROM generate_series(1, %(lines)s) AS n
"""


def fill_schedules(ticks: int = 100, of_each_tenant: int = 2) -> None:
    """Have every schedule ticked so often, one tick's runs on record, and so many schedules of each tenant."""
    entries = list(all_schedules().values())
    with autocommit() as connection:
        tenants = fetch(connection, "SELECT count(*) AS n FROM cgk.tenants WHERE source <> 'platform'")[0]["n"]
        values = {
            "names": [one.name for one in entries], "events": [one.event for one in entries],
            "crons": [one.cron for one in entries], "zones": [one.timezone for one in entries],
            "reached": [1 if one.scope == PLATFORM else tenants for one in entries], "ticks": ticks,
        }  # fmt: skip
        for statement in (SCHEDULES, TICKS, OVERRIDES):
            execute(connection, statement, values)
        execute(connection, HANDLED, {"events": [*values["events"], "email.send", "order.created"]})
        event = next(one.event for one in entries if one.name == TICKED)
        execute(connection, RUNS_OF_TICK, {"schedule": TICKED, "event": event})
        execute(connection, OF_TENANTS, {"each": of_each_tenant})
        for table in ("schedules", "schedule_ticks", "schedule_overrides", "tenant_schedules", "job_events"):
            connection.execute(f"VACUUM ANALYZE cgk.{table}")


def fill_workers(tenants: int, workers: int = 100, processes: int = 8) -> None:
    """Have so many workers alive, each process of them with a run."""
    values: Mapping[str, object] = {
        "workers": [str(uuid.uuid4()) for _ in range(workers)], "processes": processes, "tenants": tenants,
    }  # fmt: skip
    with autocommit() as connection:
        execute(connection, WORKERS, values)
        execute(connection, AT_WORK, values)
        connection.execute("VACUUM ANALYZE cgk.workers")


def fill_audit(lines: int = 200_000) -> None:
    """A line a minute, with long actions among them."""
    with autocommit() as connection:
        execute(connection, AUDIT, {"lines": lines})
        connection.execute("VACUUM ANALYZE cgk.audit")


def last_action() -> int:
    """The number of the newest long action in the audit."""
    with autocommit() as connection:
        return int(fetch(connection, "SELECT max(id) AS id FROM cgk.audit WHERE expected IS NOT NULL")[0]["id"])


def last_tenant() -> str:
    """The tenant that has fewest runs."""
    with autocommit() as connection:
        last = "SELECT id FROM cgk.tenants WHERE source <> 'platform' ORDER BY length(id) DESC, id DESC LIMIT 1"
        return str(fetch(connection, last)[0]["id"])
