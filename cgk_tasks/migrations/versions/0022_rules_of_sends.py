"""What decides about a run when it is sent: rules as workers declare them, runs that take in several sends, buckets.

The indexes of `cgk.runs` are made after this, one by one and without holding up whoever writes (`migrations.indexes`).
"""

from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

COLUMNS = """
-- merge_key: of a run that waits for further sends; those with the same key become part of it. merged: how many there
-- are, of a run that keeps all of them. single_key: of a run that is the only open one with this key.
ALTER TABLE cgk.runs ADD COLUMN merge_key text, ADD COLUMN merged integer, ADD COLUMN single_key text;

-- What decides about the event's runs when they are sent, as the job's workers declare it.
ALTER TABLE cgk.job_events ADD COLUMN send_rules text;
"""

BUCKETS = """
-- How many sends a rule accepts in a time, for each of its keys. tat: theoretical arrival time. granted: of the sends
-- that came at looked_at. skipped: how many were not accepted so far; the row with the key '' has those of keys that
-- are gone.
CREATE TABLE cgk.buckets (
    rule      text        NOT NULL,
    key       text        NOT NULL,
    looked_at timestamptz NOT NULL DEFAULT now(),
    tat       timestamptz NOT NULL DEFAULT now(),
    granted   integer     NOT NULL DEFAULT 0,
    skipped   bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (rule, key)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX buckets_full ON cgk.buckets (tat) WHERE key <> '';
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(BUCKETS)
