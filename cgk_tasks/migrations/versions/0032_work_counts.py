"""How many runs of each event and job were sent and closed, and how long they ran and waited: for the dashboard."""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

TABLES = """
-- Of each event and job in the 60 or 3600 seconds from `begin` on, as cgk.run_counts has them of each tenant. job: '' of runs that no
-- single job had, and of all that were accepted: which job a run has is known when it begins.
CREATE TABLE cgk.work_counts (
    seconds   integer     NOT NULL,
    event     text        NOT NULL,
    job       text        NOT NULL,
    begin     timestamptz NOT NULL,
    accepted  bigint      NOT NULL DEFAULT 0,
    started   bigint      NOT NULL DEFAULT 0,
    retried   bigint      NOT NULL DEFAULT 0,
    closed    bigint      NOT NULL DEFAULT 0,
    completed bigint      NOT NULL DEFAULT 0,
    failed    bigint      NOT NULL DEFAULT 0,
    cancelled bigint      NOT NULL DEFAULT 0,
    PRIMARY KEY (seconds, event, job, begin)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX work_counts_begin ON cgk.work_counts (seconds, begin);

-- How many of the runs that completed or failed then ran, and waited, for the time of the bucket: of their last attempts. Each bucket
-- ends at 1.19 times (a quarter of a doubling of) where it begins, the first one begins at 0.1 ms.
CREATE TABLE cgk.work_times (
    seconds integer     NOT NULL,
    event   text        NOT NULL,
    job     text        NOT NULL,
    begin   timestamptz NOT NULL,
    bucket  smallint    NOT NULL,
    ran     bigint      NOT NULL,
    waited  bigint      NOT NULL,
    PRIMARY KEY (seconds, event, job, begin, bucket)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX work_times_begin ON cgk.work_times (seconds, begin);

-- What closed before is in no row of these tables, so the pages say since when they count.
ALTER TABLE cgk.count_progress ADD COLUMN by_work_since timestamptz NOT NULL DEFAULT now();
"""


def upgrade() -> None:
    op.execute(TABLES)
