"""Schedules: their state, ticks, tenants' overrides and tenants' own schedules; runs know which tick made them."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = """
ALTER TABLE cgk.runs ADD COLUMN schedule text, ADD COLUMN scheduled_for timestamptz;
ALTER TABLE cgk.run_history ADD COLUMN schedule text, ADD COLUMN scheduled_for timestamptz;
-- Whether a tenant's earlier run of a schedule is still open.
CREATE INDEX runs_of_schedule ON cgk.runs (schedule, tenant_id) WHERE schedule IS NOT NULL;

-- The tenant `platform`, for schedules that work for all tenants at once, is no customer.
ALTER TABLE cgk.tenants DROP CONSTRAINT tenants_source_check;
ALTER TABLE cgk.tenants ADD CONSTRAINT tenants_source_check CHECK (source IN ('hand', 'query', 'platform'));

-- An entry of SCHEDULES as beat knows it. seeded_*: what the table said when beat last looked, so that a change in
-- django-celery-beat's tables is recognised as an operator's. done_until: ticks up to here are made or given up.
CREATE TABLE cgk.schedules (
    name            text PRIMARY KEY,
    event           text        NOT NULL,
    cron            text        NOT NULL,
    timezone        text        NOT NULL,
    is_enabled      boolean     NOT NULL,
    is_listed       boolean     NOT NULL DEFAULT true,
    seeded_cron     text        NOT NULL,
    seeded_timezone text        NOT NULL,
    seeded_enabled  boolean     NOT NULL,
    done_until      timestamptz NOT NULL
);

-- One row a tick: whoever inserts it makes the tick's runs, in the same transaction.
CREATE TABLE cgk.schedule_ticks (
    schedule      text        NOT NULL,
    scheduled_for timestamptz NOT NULL,
    fired_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    by_hand       boolean     NOT NULL DEFAULT false,
    runs          integer     NOT NULL DEFAULT 0,
    suspended     integer     NOT NULL DEFAULT 0,
    switched_off  integer     NOT NULL DEFAULT 0,
    overlapping   integer     NOT NULL DEFAULT 0,
    given_up      integer     NOT NULL DEFAULT 0,
    skipped       jsonb       NOT NULL DEFAULT '{}',
    PRIMARY KEY (schedule, scheduled_for)
);
CREATE INDEX schedule_ticks_fired ON cgk.schedule_ticks (fired_at);

-- What a tenant changed about an entry of SCHEDULES for itself.
CREATE TABLE cgk.schedule_overrides (
    schedule      text    NOT NULL,
    tenant_id     text    NOT NULL REFERENCES cgk.tenants ON DELETE CASCADE,
    is_off        boolean NOT NULL DEFAULT false,
    shift_seconds float8  NOT NULL DEFAULT 0 CHECK (shift_seconds >= 0),
    PRIMARY KEY (schedule, tenant_id)
);

-- Schedules that tenants made at run time.
CREATE TABLE cgk.tenant_schedules (
    id         uuid PRIMARY KEY,
    tenant_id  text        NOT NULL REFERENCES cgk.tenants ON DELETE CASCADE,
    event      text        NOT NULL,
    payload    json        NOT NULL,
    cron       text        NOT NULL,
    timezone   text        NOT NULL,
    misfire    text        NOT NULL,
    overlap    text        NOT NULL,
    max_age    float8      NOT NULL,
    dedup_key  text,
    is_paused  boolean     NOT NULL DEFAULT false,
    done_until timestamptz NOT NULL,
    next_at    timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, dedup_key)
);
CREATE INDEX tenant_schedules_due ON cgk.tenant_schedules (next_at) WHERE NOT is_paused;

-- The id of a tick's run follows from schedule, tenant and nominal time, so that it cannot be made twice. It has the
-- form of a UUIDv7 with the nominal time, so that a tick's runs lie side by side in the index.
CREATE FUNCTION cgk.tick_run_id(schedule text, tenant_id text, scheduled_for timestamptz) RETURNS uuid
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM scheduled_for) * 1000)::bigint), 12, '0')
            || '7' || substr(digest, 1, 3) || 'a' || substr(digest, 4, 15))::uuid
      FROM encode(sha256(convert_to(schedule || '|' || tenant_id || '|' || extract(epoch FROM scheduled_for)::text,
                                    'UTF8')), 'hex') AS digest
$$;

-- A tenant's offset inside a schedule's spread: always the same.
CREATE FUNCTION cgk.spread_offset(schedule text, tenant_id text, spread_seconds float8) RETURNS interval
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT make_interval(secs => spread_seconds / 4294967296.0 *
        ('x' || substr(encode(sha256(convert_to(schedule || '|' || tenant_id, 'UTF8')), 'hex'), 1, 8))::bit(32)::bigint)
$$;
"""


def upgrade() -> None:
    op.execute(TABLES)
