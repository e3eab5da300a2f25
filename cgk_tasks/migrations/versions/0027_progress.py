"""What runs tell of themselves while they run: how far they are, and their metadata."""

from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

TABLES = """
-- One row for each run that has told something. done, total: NULL where it told no amount. attempt: that told it last.
CREATE TABLE cgk.run_progress (
    run_id          uuid        PRIMARY KEY,
    tenant_id       text        NOT NULL,
    attempt         integer     NOT NULL,
    done            float8,
    total           float8,
    told_at         timestamptz,
    sealed_message  bytea,
    sealed_metadata bytea       NOT NULL,
    key_id          text,
    changed_at      timestamptz NOT NULL DEFAULT now()
) PARTITION BY RANGE (run_id);

-- Catches the rows of days for which no partition was made in time, and of runs whose id is of another kind.
CREATE TABLE cgk.run_progress_rest PARTITION OF cgk.run_progress DEFAULT;
"""


def upgrade() -> None:
    op.execute(TABLES)
