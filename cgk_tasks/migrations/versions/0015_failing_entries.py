"""Entries of django-celery-beat that beat could not send."""

from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

TABLES = """
-- A row while the last fire of an entry was not sent, with the reason. Beat writes and removes it; its own tables may be
-- in a database that nobody else here knows.
CREATE TABLE cgk.failing_entries (
    name          text PRIMARY KEY,
    task          text        NOT NULL,
    failing_since timestamptz NOT NULL DEFAULT now(),
    failed_at     timestamptz NOT NULL DEFAULT now(),
    reason        text        NOT NULL
);
"""


def upgrade() -> None:
    op.execute(TABLES)
