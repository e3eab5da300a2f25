"""Runs that workflows invoke: how many of them a step waits for."""

from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

COLUMNS = """
-- Of a step that waits for child runs: how many of them have not ended, and whether one that fails ends the wait.
ALTER TABLE cgk.steps ADD COLUMN awaiting integer, ADD COLUMN stops_at_failure boolean;
"""

VIEW = """
-- A parent of an event's several jobs is left out where one of them failed, which is listed. It is none of a job, unlike a
-- workflow, which may fail with its children and is to be replayed itself.
CREATE OR REPLACE VIEW cgk.dead_letters AS
SELECT h.id, h.tenant_id, h.event, h.job, h.queue, h.priority, h.sealed_payload, h.max_attempts, h.parent_id,
       h.sealed_canvas, h.scheduled_for, h.sealed_errors, h.key_id, h.error_code, h.error_fingerprint, h.created_at,
       h.closed_at
  FROM cgk.run_history h
 WHERE h.state = 'failed'
   AND NOT EXISTS (SELECT FROM cgk.discarded_runs d WHERE d.run_id = h.id)
   AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history r WHERE r.replay_of = h.id)
   AND NOT (h.job IS NULL
            AND EXISTS (SELECT FROM cgk.run_history c WHERE c.parent_id = h.id AND c.state = 'failed'));
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(VIEW)
