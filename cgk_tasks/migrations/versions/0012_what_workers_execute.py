"""Which events and tasks each worker executes, and where jobs want their runs: so that a run goes to who can take it."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

COLUMNS = """
-- Names of events and tasks, and of an event's jobs as `event:job`. NULL: a worker of an older release, which does not say.
ALTER TABLE cgk.workers ADD COLUMN executes text[];

-- What the event's jobs want for runs whose sender names none. NULL: the default.
ALTER TABLE cgk.job_events ADD COLUMN queue text, ADD COLUMN priority smallint;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
