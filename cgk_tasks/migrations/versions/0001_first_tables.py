"""First tables: tenants, runs, history, idempotency keys, workers, leases, groups."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Open and closed runs have the same columns in the same order, so that closing one is
# INSERT … SELECT of the deleted row.
RUN_COLUMNS = """
    id                  uuid        NOT NULL,
    tenant_id           text        NOT NULL,
    event               text        NOT NULL,
    job                 text,
    state               text        NOT NULL,
    queue               text        NOT NULL,
    priority            smallint    NOT NULL,
    payload             json        NOT NULL,
    max_attempts        integer,
    attempt             integer     NOT NULL DEFAULT 0,
    deaths              smallint    NOT NULL DEFAULT 0,
    run_at              timestamptz NOT NULL,
    expires_at          timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    handed_over_at      timestamptz,
    hand_overs          smallint    NOT NULL DEFAULT 0,
    started_at          timestamptz,
    worker_id           uuid,
    worker_pid          integer,
    parent_id           uuid,
    children_open       integer     NOT NULL DEFAULT 0,
    replay_of           uuid,
    idempotency_key     text,
    cancel_requested_at timestamptz,
    canvas              json,
    cursor              json,
    errors              jsonb       NOT NULL DEFAULT '[]'
"""

TABLES = f"""
CREATE TABLE cgk.tenants (
    id           text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{{0,62}}$'),
    status       text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended')),
    isolation    text NOT NULL CHECK (isolation IN ('search_path', 'role', 'rls')),
    schema_name  text NOT NULL,
    role_name    text,
    source       text NOT NULL DEFAULT 'hand' CHECK (source IN ('hand', 'query')),
    created_at   timestamptz NOT NULL DEFAULT now(),
    suspended_at timestamptz,
    suspended_by text
);
-- A schema of its own, and a role of its own: two tenants never share one by mistake.
CREATE UNIQUE INDEX tenants_schema ON cgk.tenants (schema_name) WHERE isolation <> 'rls';
CREATE UNIQUE INDEX tenants_role ON cgk.tenants (role_name) WHERE isolation = 'role';

CREATE TABLE cgk.runs ({RUN_COLUMNS},
    PRIMARY KEY (id),
    CHECK (state IN ('scheduled', 'pending', 'held', 'running', 'retrying'))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX runs_due ON cgk.runs (run_at) WHERE state IN ('scheduled', 'retrying');
CREATE INDEX runs_handed_over ON cgk.runs (queue, priority, handed_over_at)
    WHERE state = 'pending' AND handed_over_at IS NOT NULL;
CREATE INDEX runs_unpublished ON cgk.runs (priority DESC, run_at) WHERE state = 'pending' AND handed_over_at IS NULL;
CREATE INDEX runs_of_worker ON cgk.runs (worker_id) WHERE state = 'running';
CREATE INDEX runs_expiring ON cgk.runs (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX runs_children ON cgk.runs (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX runs_held ON cgk.runs (tenant_id) WHERE state = 'held';

CREATE TABLE cgk.run_history ({RUN_COLUMNS},
    closed_at           timestamptz NOT NULL DEFAULT now(),
    result              json,
    error_code          text,
    CHECK (state IN ('completed', 'failed', 'cancelled', 'expired', 'unhandled'))
) PARTITION BY RANGE (closed_at);

CREATE INDEX run_history_id ON cgk.run_history (id);
CREATE INDEX run_history_tenant ON cgk.run_history (tenant_id, closed_at);
CREATE INDEX run_history_children ON cgk.run_history (parent_id) WHERE parent_id IS NOT NULL;
CREATE INDEX run_history_failed ON cgk.run_history (closed_at) WHERE state = 'failed';

-- Catches rows for which no daily partition was made in time, so that closing a run never fails.
CREATE TABLE cgk.run_history_rest PARTITION OF cgk.run_history DEFAULT;

CREATE TABLE cgk.idempotency_keys (
    tenant_id    text        NOT NULL,
    event        text        NOT NULL,
    key          text        NOT NULL,
    run_id       uuid        NOT NULL,
    payload_hash bytea       NOT NULL,
    expires_at   timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, event, key)
);
CREATE INDEX idempotency_keys_expiring ON cgk.idempotency_keys (expires_at);

CREATE TABLE cgk.workers (
    id           uuid PRIMARY KEY,
    name         text        NOT NULL,
    pid          integer     NOT NULL,
    queues       text[]      NOT NULL,
    started_at   timestamptz NOT NULL DEFAULT now(),
    heartbeat_at timestamptz NOT NULL DEFAULT now()
);

-- Who has spoken since PostgreSQL last crashed: a crash empties an unlogged table. Claims are not flushed to disk, so
-- after a crash nobody claims before each worker has said again what it is running.
CREATE UNLOGGED TABLE cgk.presence (worker_id uuid PRIMARY KEY);

CREATE TABLE cgk.leases (
    name       text PRIMARY KEY,
    holder     uuid        NOT NULL,
    expires_at timestamptz NOT NULL
);

-- Celery's groups: a chord's body starts when the last member has closed. size: NULL until the sender has counted them;
-- How long the runs of an event take, for the length of packets.
CREATE TABLE cgk.run_times (
    event        text PRIMARY KEY,
    mean_seconds float8      NOT NULL,
    noted_at     timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

-- results: the members' ids as Celery's tree, where groups are nested or the application saved its GroupResult.
CREATE TABLE cgk.groups (
    id         text PRIMARY KEY,
    size       integer,
    added      integer     NOT NULL DEFAULT 0,
    closed     integer     NOT NULL DEFAULT 0,
    results    json,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE cgk.group_members (
    group_id text    NOT NULL REFERENCES cgk.groups ON DELETE CASCADE,
    run_id   uuid    NOT NULL,
    position integer,
    result   json,
    error    text,
    PRIMARY KEY (group_id, run_id)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
