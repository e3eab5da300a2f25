"""How many of a run's errors are left out of its record: it keeps the first and the last ones."""

from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

COLUMNS = """
-- NULL: none. Last in both tables, because older workers copy a run into the history by the order of the columns.
ALTER TABLE cgk.runs ADD COLUMN errors_left_out integer;
ALTER TABLE cgk.run_history ADD COLUMN errors_left_out integer;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
