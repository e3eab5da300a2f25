"""Which process a worker is, so that its own machine can tell that it is gone; and how far its clock is off."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

COLUMNS = """
-- NULL: the worker is of an earlier version, or cannot tell.
-- pid_namespace: where `pid` means something; process_started: in the kernel's ticks, because pids are used again.
ALTER TABLE cgk.workers
    ADD COLUMN pid_namespace text,
    ADD COLUMN process_started bigint,
    ADD COLUMN clock_offset_seconds float8;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
