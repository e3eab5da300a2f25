"""Guards: limits that several jobs share, and that move with how a partner answers. Tenants in quarantine."""

from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLES = """
-- What the code declares. rule_id: the rule of its gates. at_once: the most of them at once. probe_after: seconds.
CREATE TABLE cgk.guards (
    rule_id     bigint PRIMARY KEY,
    name        text        NOT NULL,
    per         text        NOT NULL CHECK (per IN ('tenant', 'all')),
    at_once     integer     NOT NULL CHECK (at_once > 0),
    probe_after float8      NOT NULL CHECK (probe_after > 0),
    declared_at timestamptz NOT NULL DEFAULT now()
);

-- How a guard's gate has moved; no row: it lets through what is declared. limit_now: how many at once. failures: in a row.
-- closures: for failures, in a row. opens_at: until when it is, or was last, closed. closed_at: what was admitted before goes
-- back. asked: how often the partner asked to wait; failed: how often it failed.
CREATE TABLE cgk.guard_states (
    gate_id   bigint PRIMARY KEY,
    state     text        NOT NULL CHECK (state IN ('open', 'throttled', 'failing', 'shut')),
    limit_now float8      NOT NULL CHECK (limit_now >= 1),
    failures  integer     NOT NULL DEFAULT 0,
    closures  integer     NOT NULL DEFAULT 0,
    opens_at  timestamptz,
    closed_at timestamptz,
    asked     bigint      NOT NULL DEFAULT 0,
    failed    bigint      NOT NULL DEFAULT 0,
    shut_by   text        NOT NULL DEFAULT '',
    reason    text        NOT NULL DEFAULT '',
    moved_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- What workers saw, until the leader has taken it into account.
CREATE TABLE cgk.guard_reports (
    id           bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    gate_id      bigint      NOT NULL,
    successes    integer     NOT NULL,
    others       integer     NOT NULL,
    failures     integer     NOT NULL,
    all_failures integer     NOT NULL,
    asked        integer     NOT NULL,
    asked_at     timestamptz NOT NULL,
    until        timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""

QUARANTINES = """
-- Tenants of whose runs too many failed: so many of so many, when it began. until: when the pause ends by itself. released_at: when it
-- was over. paced_until: until then the tenant has a part of its weight.
CREATE TABLE cgk.quarantines (
    tenant_id   text PRIMARY KEY,
    began_at    timestamptz NOT NULL DEFAULT now(),
    until       timestamptz,
    runs        bigint      NOT NULL,
    failed      bigint      NOT NULL,
    released_at timestamptz,
    paced_until timestamptz
);
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(QUARANTINES)
