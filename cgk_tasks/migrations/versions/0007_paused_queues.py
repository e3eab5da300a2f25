"""Queues that an operator paused, and why a job put its run off."""

from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

TABLES = """
-- A row for each queue that is paused, so that usually there is none. Every claim reads it.
CREATE TABLE cgk.paused_queues (
    queue     text PRIMARY KEY,
    paused_at timestamptz NOT NULL DEFAULT now(),
    paused_by text        NOT NULL DEFAULT '',
    reason    text        NOT NULL DEFAULT ''
);

-- Of a run that is `retrying` without having failed: which limit had no room for it, or what its job said.
ALTER TABLE cgk.runs ADD COLUMN put_off json;

-- By queue first: the dispatcher looks every second for held runs to release, and must not read those of paused queues.
DROP INDEX cgk.runs_held;
CREATE INDEX runs_held ON cgk.runs (queue, tenant_id) WHERE state = 'held';
"""


def upgrade() -> None:
    op.execute(TABLES)
