"""Workers that an operator drains, what their processes take of the memory; and what became of the runs of each tick."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

COLUMNS = """
-- drain_wanted_at: since when the worker is to take no more runs, and who wants that why; NULL: it is to take runs. drains_since: since
-- when it takes none; drained_at: since when it has none left. pool_size: how many runs it executes at once, also while it takes none.
-- memory: of each of its processes by pid, in bytes; NULL: its system does not tell.
ALTER TABLE cgk.workers
    ADD COLUMN drain_wanted_at timestamptz, ADD COLUMN drain_wanted_by text, ADD COLUMN drain_reason text,
    ADD COLUMN drains_since timestamptz, ADD COLUMN drained_at timestamptz,
    ADD COLUMN pool_size integer, ADD COLUMN memory jsonb;

-- What became of the tick's runs, as of counted_at: NULL where nobody has counted. otherwise: cancelled, expired or unhandled.
-- count_at: when they are to be counted (again); NULL once all of them are closed.
ALTER TABLE cgk.schedule_ticks
    ADD COLUMN open integer, ADD COLUMN completed integer, ADD COLUMN failed integer, ADD COLUMN otherwise integer,
    ADD COLUMN counted_at timestamptz, ADD COLUMN count_at timestamptz;
ALTER TABLE cgk.schedule_ticks ALTER COLUMN count_at SET DEFAULT now();
-- Of the ticks there were, those that are shown.
UPDATE cgk.schedule_ticks t SET count_at = now()
  FROM cgk.schedules s, LATERAL (
       SELECT scheduled_for FROM cgk.schedule_ticks k
        WHERE k.schedule = s.name ORDER BY scheduled_for DESC LIMIT 20) AS last
 WHERE t.schedule = s.name AND t.scheduled_for = last.scheduled_for;
CREATE INDEX schedule_ticks_uncounted ON cgk.schedule_ticks (count_at) WHERE count_at IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(COLUMNS)
