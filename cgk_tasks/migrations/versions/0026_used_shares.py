"""What tenants had of each queue's workers, by minutes."""

from alembic import op

revision = "0026"
down_revision = "0023"
branch_labels = None
depends_on = None

TABLES = """
-- Seconds of workers' processes in a minute: looked at every other second, and not counted by run. Kept for an hour or two.
CREATE TABLE cgk.used_shares (
    queue     text        NOT NULL,
    minute    timestamptz NOT NULL,
    tenant_id text        NOT NULL,
    seconds   float8      NOT NULL,
    PRIMARY KEY (queue, minute, tenant_id)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
"""


def upgrade() -> None:
    op.execute(TABLES)
