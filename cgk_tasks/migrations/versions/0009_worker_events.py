"""Which events somebody has a job for, so that beat leaves the others out; and by which way an audited change was made."""

from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLES = """
-- A row for each event that a worker, or a beat that imports the job modules, has a job for. Workers renew the rows while
-- they live. What no worker has renewed for a day, while others went on, is no longer counted.
CREATE TABLE cgk.job_events (
    event   text PRIMARY KEY,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- cli, python or dashboard. Lines of before are the dashboard's: nobody else wrote any.
ALTER TABLE cgk.audit ADD COLUMN via text NOT NULL DEFAULT 'dashboard';
"""


def upgrade() -> None:
    op.execute(TABLES)
