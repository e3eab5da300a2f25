"""Limits of plans, tenants and jobs that are set while everything runs; pauses of any queue, tenant and event; usage."""

from alembic import op

revision = "0023"
down_revision = "0021"
branch_labels = None
depends_on = None

LIMITS = """
-- One row. Whoever changes limits or pauses raises the version and keeps the row until its commit, so that the changes come
-- one after another; processes look at it every other second, and read what has changed.
CREATE TABLE cgk.flow_changes (
    id      smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    version bigint   NOT NULL DEFAULT 0
) WITH (fillfactor = 50);
INSERT INTO cgk.flow_changes DEFAULT VALUES;

-- What the tenants of a plan get. NULL: no such limit, or of the weight 1. starts in period (seconds), burst of them at once.
CREATE TABLE cgk.plans (
    name        text PRIMARY KEY,
    weight      float8 CHECK (weight > 0),
    at_once     integer CHECK (at_once > 0),
    starts      integer CHECK (starts > 0),
    period      float8 CHECK (period > 0),
    burst       integer CHECK (burst > 0),
    daily_runs  bigint CHECK (daily_runs > 0),
    max_waiting bigint CHECK (max_waiting > 0),
    changed_at  timestamptz NOT NULL DEFAULT now(),
    changed_by  text        NOT NULL DEFAULT '',
    CHECK (num_nulls(starts, period, burst) IN (0, 3))
);

-- A tenant's plan, and what is set for the tenant itself, which comes first. version: of the last change that was about the
-- tenant or its plan.
CREATE TABLE cgk.tenant_limits (
    tenant_id   text PRIMARY KEY,
    plan        text REFERENCES cgk.plans,
    weight      float8 CHECK (weight > 0),
    at_once     integer CHECK (at_once > 0),
    starts      integer CHECK (starts > 0),
    period      float8 CHECK (period > 0),
    burst       integer CHECK (burst > 0),
    daily_runs  bigint CHECK (daily_runs > 0),
    max_waiting bigint CHECK (max_waiting > 0),
    version     bigint      NOT NULL,
    changed_at  timestamptz NOT NULL DEFAULT now(),
    changed_by  text        NOT NULL DEFAULT '',
    CHECK (num_nulls(starts, period, burst) IN (0, 3))
);
CREATE INDEX tenant_limits_version ON cgk.tenant_limits (version);
CREATE INDEX tenant_limits_plan ON cgk.tenant_limits (plan);

CREATE VIEW cgk.tenant_limits_in_force AS
SELECT t.tenant_id, t.plan, t.version, coalesce(t.weight, p.weight, 1) AS weight, coalesce(t.at_once, p.at_once) AS at_once,
       CASE WHEN t.starts IS NULL THEN p.starts ELSE t.starts END AS starts,
       CASE WHEN t.starts IS NULL THEN p.period ELSE t.period END AS period,
       CASE WHEN t.starts IS NULL THEN p.burst ELSE t.burst END AS burst,
       coalesce(t.daily_runs, p.daily_runs) AS daily_runs, coalesce(t.max_waiting, p.max_waiting) AS max_waiting
  FROM cgk.tenant_limits t LEFT JOIN cgk.plans p ON p.name = t.plan;

-- A limit of a job that was set, and not declared: for a tenant, or for all (''). rule: its name, as in cgk.rules. It takes
-- the place of a declared one of this name. is_only_job: of its event, as far as was known then.
CREATE TABLE cgk.job_limits (
    rule       text NOT NULL,
    tenant_id  text NOT NULL DEFAULT '',
    job        text NOT NULL,
    event      text NOT NULL,
    is_only_job boolean NOT NULL,
    kind       text NOT NULL CHECK (kind IN ('at_once', 'throttle')),
    per        text NOT NULL CHECK (per IN ('tenant', 'all')),
    key_field  text,
    at_once    integer CHECK (at_once > 0),
    lend_to    integer CHECK (lend_to >= at_once),
    rate       integer CHECK (rate > 0),
    period     float8 CHECK (period > 0),
    burst      integer CHECK (burst > 0),
    changed_at timestamptz NOT NULL DEFAULT now(),
    changed_by text        NOT NULL DEFAULT '',
    reason     text        NOT NULL DEFAULT '',
    PRIMARY KEY (rule, tenant_id)
);

-- How many runs were sent for a tenant that may have so many a day, which is that of UTC.
CREATE TABLE cgk.runs_of_days (
    tenant_id text   NOT NULL,
    day       date   NOT NULL,
    runs      bigint NOT NULL,
    PRIMARY KEY (tenant_id, day)
) WITH (fillfactor = 50);
CREATE INDEX runs_of_days_day ON cgk.runs_of_days (day);

-- For the weight of a tenant, and to count what waits for it.
CREATE INDEX shares_tenant ON cgk.shares (tenant_id);
"""

WEIGHTS = """
-- Weights were set in the shares themselves. Where a tenant has the same in all of them, it is the tenant's.
WITH weighed AS (
    SELECT tenant_id, min(weight) AS weight FROM cgk.shares
     GROUP BY tenant_id HAVING min(weight) = max(weight) AND min(weight) <> 1
), counted AS (
    UPDATE cgk.flow_changes SET version = version + 1 WHERE EXISTS (SELECT FROM weighed) RETURNING version
)
INSERT INTO cgk.tenant_limits (tenant_id, weight, version, changed_by)
SELECT tenant_id, weight, version, 'migration 0023' FROM weighed, counted;
"""


def upgrade() -> None:
    op.execute(LIMITS)
    op.execute(WEIGHTS)
