"""How many deliveries came from the sources of webhooks, and what became of them."""

from alembic import op

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None

TABLES = """
-- outcome: accepted, duplicate, ignored, refused, unmapped or failed.
CREATE TABLE cgk.received_webhooks (
    source     text        NOT NULL,
    outcome    text        NOT NULL,
    deliveries bigint      NOT NULL,
    last_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (source, outcome)
);
"""


def upgrade() -> None:
    op.execute(TABLES)
