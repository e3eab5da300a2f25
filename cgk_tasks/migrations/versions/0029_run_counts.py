"""How many runs each tenant sent and closed by minutes, hours and days, how long queues were, and an index of dead
letters: for the dashboard.
"""

from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

TABLES = """
-- Of each tenant, and ('') of all together, in the 60, 3600 or 86400 seconds from `begin` on. accepted: by when runs were sent. All
-- else: of the runs that closed then. started: attempts; retried: those that failed and were followed by another. busy_seconds: of
-- the workers' processes, in hours and days alone. Hours and days are added up of minutes that nobody adds to any more.
CREATE TABLE cgk.run_counts (
    seconds      integer     NOT NULL,
    tenant_id    text        NOT NULL,
    begin        timestamptz NOT NULL,
    accepted     bigint      NOT NULL DEFAULT 0,
    started      bigint      NOT NULL DEFAULT 0,
    retried      bigint      NOT NULL DEFAULT 0,
    closed       bigint      NOT NULL DEFAULT 0,
    completed    bigint      NOT NULL DEFAULT 0,
    failed       bigint      NOT NULL DEFAULT 0,
    cancelled    bigint      NOT NULL DEFAULT 0,
    busy_seconds float8      NOT NULL DEFAULT 0,
    PRIMARY KEY (seconds, tenant_id, begin)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX run_counts_begin ON cgk.run_counts (seconds, begin);
CREATE INDEX run_counts_failed ON cgk.run_counts (seconds, begin) WHERE failed > 0;

-- One row. sure_until: minutes before it are in the hours and days, and are not counted again. seen_at, seen_xid: a moment, and a
-- transaction that began after it. Once all before that one are over, nobody can add a run any more that was sent or closed before.
CREATE TABLE cgk.count_progress (
    id         smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1),
    sure_until timestamptz NOT NULL,
    seen_at    timestamptz,
    seen_xid   xid8
) WITH (fillfactor = 50);
-- What is on record is counted from its beginning on, a month of it at most.
INSERT INTO cgk.count_progress (sure_until)
SELECT greatest(date_trunc('day', now(), 'UTC') - interval '30 days', date_trunc('hour', least(
           (SELECT to_timestamp(('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint / 1000.0)
              FROM cgk.run_history WHERE (get_byte(uuid_send(id), 6) & 240) = 112 ORDER BY id LIMIT 1),
           (SELECT min(created_at) FROM cgk.run_history WHERE (get_byte(uuid_send(id), 6) & 240) <> 112),
           now()), 'UTC'));

-- The most that waited in a queue in the 60 or 3600 seconds from `begin` on, of looks twice a minute, and how long the first of it had
-- waited. No row: nothing waited, or nobody looked.
CREATE TABLE cgk.queue_depths (
    seconds        integer     NOT NULL,
    queue          text        NOT NULL,
    begin          timestamptz NOT NULL,
    waiting        bigint      NOT NULL,
    oldest_seconds float8      NOT NULL,
    PRIMARY KEY (seconds, begin, queue)
) WITH (fillfactor = 70);
"""

# Of each partition it is made apart, without holding up whoever writes: migrations/indexes.py. With what the pages count of
# failed runs, so that they need not read the runs themselves.
INDEX = """
CREATE INDEX run_history_dead_letters ON ONLY cgk.run_history (event, error_fingerprint, closed_at) INCLUDE (id, tenant_id)
    WHERE state = 'failed';
"""


def upgrade() -> None:
    op.execute(TABLES)
    op.execute(INDEX)
