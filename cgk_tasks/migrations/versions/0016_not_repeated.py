"""Which attempt of a run has begun a job that must not run twice."""

from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None

COLUMN = """
-- started_at of the claim whose job, with redelivery=False, has begun: if it is lost, the run fails. NULL for all others.
-- A claim's time and not its number: an attempt that is not counted gives its number to the next one.
ALTER TABLE cgk.runs ADD COLUMN begun_once_at timestamptz;
"""


def upgrade() -> None:
    op.execute(COLUMN)
