"""The index of all held runs is used by nothing any more. What drops it, beside running workers: migrations/indexes.py."""

from alembic import op

revision = "0034"
down_revision = "0033"
branch_labels = None
depends_on = None

# Somebody who knew that it is not needed may have dropped it.
COMMENT = """
DO $$ BEGIN
    IF to_regclass('cgk.runs_held') IS NOT NULL THEN
        COMMENT ON INDEX cgk.runs_held IS 'Used by nothing: cgk-tasks migrate drops it.';
    END IF;
END $$
"""


def upgrade() -> None:
    op.execute(COMMENT)
