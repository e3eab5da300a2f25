"""The end of what 0013 began: the old columns of a run's content go, and the triggers that kept them in step.

Nothing of an earlier release may use the database from here on; `migrations.finishing` sees to that before it applies
this. Columns are dropped in the catalogue alone: no table is written anew.
"""

from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TRIGGERS = """
DROP TRIGGER keep_alike_inserted ON cgk.runs;
DROP TRIGGER keep_alike_changed ON cgk.runs;
DROP TRIGGER keep_alike_unsealed ON cgk.runs;
DROP TRIGGER keep_alike_inserted ON cgk.run_history;
DROP TRIGGER keep_alike_unsealed ON cgk.run_history;
DROP TRIGGER keep_alike ON cgk.run_logs;
DROP TRIGGER keep_alike ON cgk.group_members;
DROP TRIGGER keep_alike ON cgk.tenant_schedules;
DROP FUNCTION cgk.keep_run_alike(), cgk.keep_history_alike(), cgk.keep_log_alike(), cgk.keep_member_alike(),
              cgk.keep_tenant_schedule_alike(), cgk.note_old_form(), cgk.sealed_of(text), cgk.content_of(bytea),
              cgk.sealed_errors_of(jsonb), cgk.errors_of(bytea[]), cgk.error_fingerprint_of(text, jsonb);
DROP SEQUENCE cgk.written_in_old_form;
"""

COLUMNS = """
DROP VIEW cgk.dead_letters;
ALTER TABLE cgk.runs DROP COLUMN payload, DROP COLUMN canvas, DROP COLUMN cursor, DROP COLUMN errors, DROP COLUMN put_off;
-- With them goes the index of the old fingerprints.
ALTER TABLE cgk.run_history DROP COLUMN payload, DROP COLUMN canvas, DROP COLUMN cursor, DROP COLUMN errors,
                            DROP COLUMN result;
ALTER TABLE cgk.run_logs DROP COLUMN lines;
ALTER TABLE cgk.group_members DROP COLUMN result, DROP COLUMN error;
ALTER TABLE cgk.tenant_schedules DROP COLUMN payload;
DROP FUNCTION cgk.error_fingerprint(text, jsonb);

-- Not valid: what is there has been looked at already, and need not be again while everybody waits.
ALTER TABLE cgk.runs ADD CONSTRAINT runs_have_payload CHECK (sealed_payload IS NOT NULL) NOT VALID;
ALTER TABLE cgk.run_history ADD CONSTRAINT run_history_has_payload CHECK (sealed_payload IS NOT NULL) NOT VALID;
ALTER TABLE cgk.run_logs ALTER COLUMN line_count SET DEFAULT 0;
ALTER TABLE cgk.tenant_schedules ALTER COLUMN sealed_payload SET NOT NULL;

CREATE VIEW cgk.dead_letters AS
SELECT h.id, h.tenant_id, h.event, h.job, h.queue, h.priority, h.sealed_payload, h.max_attempts, h.parent_id,
       h.sealed_canvas, h.scheduled_for, h.sealed_errors, h.key_id, h.error_code, h.error_fingerprint, h.created_at,
       h.closed_at
  FROM cgk.run_history h
 WHERE h.state = 'failed'
   AND NOT EXISTS (SELECT FROM cgk.discarded_runs d WHERE d.run_id = h.id)
   AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history c WHERE c.parent_id = h.id AND c.state = 'failed');
"""


# In the order in which a statement that closes a run has them.
LOCKS = "LOCK TABLE cgk.run_history, cgk.runs IN ACCESS EXCLUSIVE MODE"


def upgrade() -> None:
    op.execute(LOCKS)
    op.execute(TRIGGERS)
    op.execute(COLUMNS)
