"""Searches for runs that people keep under a name."""

from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None

TABLES = """
-- owner: whose it is; '' for all who may log in.
CREATE TABLE cgk.saved_views (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner      text        NOT NULL DEFAULT '',
    name       text        NOT NULL,
    search     text        NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    created_by text        NOT NULL
);
CREATE UNIQUE INDEX saved_views_name ON cgk.saved_views (lower(owner), lower(name));
"""


def upgrade() -> None:
    op.execute(TABLES)
