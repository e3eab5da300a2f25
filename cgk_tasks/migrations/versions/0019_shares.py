"""Shares of crowded queues."""

from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None

CHANGES = """
-- Up to when tenants have paid for runs that take longer than was expected of them.
ALTER TABLE cgk.passes ADD COLUMN charged_at timestamptz NOT NULL DEFAULT now();

-- A leader of the release before looks at lanes only if there are rules. Should one lead again, it lets out what waits.
INSERT INTO cgk.rules (name, job, event, kind, per, declared) VALUES ('shares', '', '', 'shares', 'tenant', '{}');
"""


def upgrade() -> None:
    op.execute(CHANGES)
