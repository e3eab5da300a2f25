"""The dashboard: who did what, which dead letters are dealt with, and the indexes that its pages need."""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

TABLES = r"""
-- Every action of a person that changes something. It is written before the action, with the outcome `begun`.
-- expected, affected: how many runs a group's action was about, and how many it has reached.
CREATE TABLE cgk.audit (
    id                 bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at                 timestamptz NOT NULL DEFAULT clock_timestamp(),
    who                text        NOT NULL,
    role               text        NOT NULL,
    action             text        NOT NULL,
    subject            text        NOT NULL DEFAULT '',
    tenant_id          text,
    expected           integer,
    affected           integer     NOT NULL DEFAULT 0,
    outcome            text        NOT NULL DEFAULT 'begun'
                       CHECK (outcome IN ('begun', 'done', 'refused', 'failed', 'aborted')),
    message            text        NOT NULL DEFAULT '',
    details            jsonb       NOT NULL DEFAULT '{}',
    seen_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    abort_requested_at timestamptz
);

-- Dead letters that somebody has put aside. The run itself stays in the history.
CREATE TABLE cgk.discarded_runs (
    run_id    uuid PRIMARY KEY,
    closed_at timestamptz NOT NULL,
    audit_id  bigint      NOT NULL
);

-- Errors are the same if code, type and message are, but for names in quotes and words with digits in them.
CREATE FUNCTION cgk.error_fingerprint(error_code text, errors jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT to_hex(hashtextextended(
        coalesce(error_code, '') || '|' || coalesce(errors -> -1 ->> 'type', '') || '|' ||
        regexp_replace(left(coalesce(errors -> -1 ->> 'message', ''), 300),
                       $re$'[^']*'|"[^"]*"|[\w.:@-]*\d[\w.:@-]*$re$, '#', 'g'), 0))
$body$;

-- Partial: a run that completes costs them nothing but a look at its state.
CREATE INDEX run_history_fingerprint
    ON cgk.run_history (event, cgk.error_fingerprint(error_code, errors), closed_at) WHERE state = 'failed';
CREATE INDEX runs_replays ON cgk.runs (replay_of) WHERE replay_of IS NOT NULL;
CREATE INDEX run_history_replays ON cgk.run_history (replay_of) WHERE replay_of IS NOT NULL;

-- Runs are listed in the order of their ids, which is that of their sending (UUIDv7). Ids of other producers' messages
-- tell no time; they alone need an index for it.
CREATE INDEX runs_foreign ON cgk.runs (created_at, id) WHERE (get_byte(uuid_send(id), 6) & 240) <> 112;
CREATE INDEX run_history_foreign ON cgk.run_history (created_at, id) WHERE (get_byte(uuid_send(id), 6) & 240) <> 112;

-- Failed runs that nobody has dealt with yet: neither run again nor put aside. A parent counts only if none of its
-- children does, so that running a group again does not run a job twice.
CREATE VIEW cgk.dead_letters AS
SELECT h.id, h.tenant_id, h.event, h.job, h.queue, h.priority, h.payload, h.max_attempts, h.parent_id, h.canvas,
       h.scheduled_for, h.errors, h.error_code, h.created_at, h.closed_at,
       cgk.error_fingerprint(h.error_code, h.errors) AS fingerprint
  FROM cgk.run_history h
 WHERE h.state = 'failed'
   AND NOT EXISTS (SELECT FROM cgk.discarded_runs d WHERE d.run_id = h.id)
   AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history c WHERE c.parent_id = h.id AND c.state = 'failed');
"""


def upgrade() -> None:
    op.execute(TABLES)
