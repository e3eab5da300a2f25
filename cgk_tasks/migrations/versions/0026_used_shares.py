"""What tenants had of each queue's workers, by minutes."""

from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

TABLES = """
-- Seconds of workers' processes in a minute, of a tenant or ('') of all: looked at every other second, and not counted by
-- run. Kept for an hour or two.
CREATE TABLE cgk.used_shares (
    queue     text        NOT NULL,
    tenant_id text        NOT NULL,
    minute    timestamptz NOT NULL,
    seconds   float8      NOT NULL,
    PRIMARY KEY (queue, tenant_id, minute)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);

-- The same by half hours, in which the tenants that had most are found.
CREATE TABLE cgk.used_half_hours (
    queue     text        NOT NULL,
    half_hour timestamptz NOT NULL,
    tenant_id text        NOT NULL,
    seconds   float8      NOT NULL,
    PRIMARY KEY (queue, half_hour, tenant_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""


def upgrade() -> None:
    op.execute(TABLES)
