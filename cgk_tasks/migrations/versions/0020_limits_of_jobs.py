"""The limits of jobs, as workers declare them: senders put runs into lanes that do not import the jobs."""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("ALTER TABLE cgk.job_events ADD COLUMN limits text")
