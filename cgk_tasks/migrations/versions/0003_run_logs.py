"""Run logs: the lines that jobs logged, kept with their run; and the trace that a run belongs to."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

TABLES = """
-- One row for each attempt that logged something. lines: [{"at", "level", "logger", "message", ...}]; size: their bytes;
-- left_out: lines that had no room.
CREATE TABLE cgk.run_logs (
    run_id    uuid        NOT NULL,
    tenant_id text        NOT NULL,
    attempt   integer     NOT NULL,
    logged_at timestamptz NOT NULL DEFAULT now(),
    size      integer     NOT NULL,
    left_out  integer     NOT NULL DEFAULT 0,
    lines     jsonb       NOT NULL
) PARTITION BY RANGE (logged_at);
CREATE INDEX run_logs_run ON cgk.run_logs (run_id);

-- Catches rows for which no daily partition was made in time.
CREATE TABLE cgk.run_logs_rest PARTITION OF cgk.run_logs DEFAULT;

-- The trace context of the sender (W3C's traceparent), which all attempts need. NULL, and no byte, without tracing.
ALTER TABLE cgk.runs ADD COLUMN trace text;
"""


def upgrade() -> None:
    op.execute(TABLES)
