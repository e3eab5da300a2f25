"""What is kept of a run's content as bytes with a key id, beside the old columns, and in step with them by triggers.

Workers, senders and beats of the release before go on with the old columns, those of this one with the new. The triggers
keep both alike until 0014 removes the old ones. Rows that are there already are converted in batches after this
migration (`migrations.conversion`), or by the first statement that changes them.
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

COLUMNS = """
-- sealed_*: bytes that only runs/sealing.py makes and reads. key_id: the key that those of the row are sealed with; NULL,
-- none: they are UTF-8. In both tables in the same place, because older workers copy a run by the order of the columns.
ALTER TABLE cgk.runs
    ADD COLUMN sealed_payload bytea, ADD COLUMN sealed_canvas bytea, ADD COLUMN sealed_cursor bytea,
    ADD COLUMN sealed_errors bytea[], ADD COLUMN key_id text, ADD COLUMN search_fields text,
    ADD COLUMN sealed_deferral bytea, ADD COLUMN first_failed_at timestamptz, ADD COLUMN last_error_code text;
ALTER TABLE cgk.run_history
    ADD COLUMN sealed_payload bytea, ADD COLUMN sealed_canvas bytea, ADD COLUMN sealed_cursor bytea,
    ADD COLUMN sealed_errors bytea[], ADD COLUMN key_id text, ADD COLUMN search_fields text,
    ADD COLUMN sealed_result bytea, ADD COLUMN error_fingerprint text;
ALTER TABLE cgk.run_logs ADD COLUMN sealed_lines bytea, ADD COLUMN line_count integer, ADD COLUMN key_id text;
ALTER TABLE cgk.group_members
    ADD COLUMN tenant_id text, ADD COLUMN key_id text, ADD COLUMN sealed_result bytea, ADD COLUMN sealed_error bytea;
ALTER TABLE cgk.tenant_schedules ADD COLUMN sealed_payload bytea, ADD COLUMN key_id text;

-- The newest migration that a worker's code knows; NULL: one from before this column.
ALTER TABLE cgk.workers ADD COLUMN revision text;

-- Of each partition the index is made apart, without holding up whoever writes.
CREATE INDEX run_history_errors ON ONLY cgk.run_history (event, error_fingerprint, closed_at) WHERE state = 'failed';

CREATE OR REPLACE VIEW cgk.dead_letters AS
SELECT h.id, h.tenant_id, h.event, h.job, h.queue, h.priority, h.payload, h.max_attempts, h.parent_id, h.canvas,
       h.scheduled_for, h.errors, h.error_code, h.created_at, h.closed_at,
       cgk.error_fingerprint(h.error_code, h.errors) AS fingerprint,
       h.sealed_payload, h.sealed_canvas, h.sealed_errors, h.key_id, h.error_fingerprint
  FROM cgk.run_history h
 WHERE h.state = 'failed'
   AND NOT EXISTS (SELECT FROM cgk.discarded_runs d WHERE d.run_id = h.id)
   AND NOT EXISTS (SELECT FROM cgk.runs r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history r WHERE r.replay_of = h.id)
   AND NOT EXISTS (SELECT FROM cgk.run_history c WHERE c.parent_id = h.id AND c.state = 'failed');
"""

FUNCTIONS = r"""
-- When something was last written in the old form, in seconds since 1970. A sequence, because that does not wait for the
-- transactions of others, and is not undone with one's own.
CREATE SEQUENCE cgk.written_in_old_form;

CREATE FUNCTION cgk.note_old_form() RETURNS void LANGUAGE sql AS $$
    SELECT setval('cgk.written_in_old_form', extract(epoch FROM clock_timestamp())::bigint)
$$;

CREATE FUNCTION cgk.sealed_of(content text) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT convert_to(content, 'UTF8')
$$;

CREATE FUNCTION cgk.content_of(sealed bytea) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT convert_from(sealed, 'UTF8')
$$;

CREATE FUNCTION cgk.sealed_errors_of(errors jsonb) RETURNS bytea[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT array_agg(convert_to(error::text, 'UTF8') ORDER BY place)
      FROM jsonb_array_elements(errors) WITH ORDINALITY AS e (error, place)
$$;

CREATE FUNCTION cgk.errors_of(sealed bytea[]) RETURNS jsonb LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(jsonb_agg(convert_from(one, 'UTF8')::jsonb ORDER BY place), '[]')
      FROM unnest(sealed) WITH ORDINALITY AS e (one, place)
$$;

-- As runs/plain_columns.py makes it.
CREATE FUNCTION cgk.error_fingerprint_of(error_code text, errors jsonb) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $body$
    SELECT left(encode(sha256(convert_to(
        coalesce(error_code, '') || '|' || coalesce(errors -> -1 ->> 'type', '') || '|' ||
        regexp_replace(left(coalesce(errors -> -1 ->> 'message', ''), 300),
                       $re$'[^']*'|"[^"]*"|[\w.:@-]*\d[\w.:@-]*$re$, '#', 'g'), 'UTF8')), 'hex'), 16)
$body$;

CREATE FUNCTION cgk.keep_run_alike() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_unsealed boolean := NEW.sealed_payload IS NULL;
    is_old boolean := is_unsealed;
BEGIN
    IF TG_OP = 'UPDATE' AND NOT is_unsealed THEN
        is_old := (NEW.payload::text, NEW.canvas::text, NEW.cursor::text, NEW.put_off::text, NEW.errors)
                  IS DISTINCT FROM (OLD.payload::text, OLD.canvas::text, OLD.cursor::text, OLD.put_off::text, OLD.errors);
    END IF;
    IF is_old THEN
        NEW.sealed_payload := cgk.sealed_of(NEW.payload::text);
        NEW.sealed_canvas := cgk.sealed_of(NEW.canvas::text);
        NEW.sealed_cursor := cgk.sealed_of(NEW.cursor::text);
        NEW.sealed_deferral := cgk.sealed_of(NEW.put_off::text);
        NEW.sealed_errors := cgk.sealed_errors_of(NEW.errors);
        NEW.first_failed_at := (NEW.errors -> 0 ->> 'at')::timestamptz;
        NEW.last_error_code := NEW.errors -> -1 ->> 'code';
        IF TG_OP = 'INSERT' OR NOT is_unsealed THEN
            PERFORM cgk.note_old_form();
        END IF;
    ELSE
        NEW.payload := cgk.content_of(NEW.sealed_payload)::json;
        NEW.canvas := cgk.content_of(NEW.sealed_canvas)::json;
        NEW.cursor := cgk.content_of(NEW.sealed_cursor)::json;
        NEW.put_off := cgk.content_of(NEW.sealed_deferral)::json;
        NEW.errors := cgk.errors_of(NEW.sealed_errors);
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION cgk.keep_history_alike() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_unsealed boolean := NEW.sealed_payload IS NULL;
BEGIN
    IF is_unsealed THEN  -- a closed run is not changed
        NEW.sealed_payload := cgk.sealed_of(NEW.payload::text);
        NEW.sealed_canvas := cgk.sealed_of(NEW.canvas::text);
        NEW.sealed_cursor := cgk.sealed_of(NEW.cursor::text);
        NEW.sealed_result := cgk.sealed_of(NEW.result::text);
        NEW.sealed_errors := cgk.sealed_errors_of(NEW.errors);
        IF NEW.state = 'failed' THEN
            NEW.error_fingerprint := cgk.error_fingerprint_of(NEW.error_code, NEW.errors);
        END IF;
        IF TG_OP = 'INSERT' THEN
            PERFORM cgk.note_old_form();
        END IF;
    ELSE
        NEW.payload := cgk.content_of(NEW.sealed_payload)::json;
        NEW.canvas := cgk.content_of(NEW.sealed_canvas)::json;
        NEW.cursor := cgk.content_of(NEW.sealed_cursor)::json;
        NEW.result := cgk.content_of(NEW.sealed_result)::json;
        NEW.errors := cgk.errors_of(NEW.sealed_errors);
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION cgk.keep_log_alike() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- line_count is NULL in what an older release inserts, and in rows from before.
    IF NEW.line_count IS NULL OR (TG_OP = 'UPDATE' AND NEW.lines IS DISTINCT FROM OLD.lines) THEN
        NEW.line_count := jsonb_array_length(NEW.lines);
        NEW.sealed_lines := cgk.sealed_of(NEW.lines::text);
        IF TG_OP = 'INSERT' THEN
            PERFORM cgk.note_old_form();
        END IF;
    ELSE
        NEW.lines := coalesce(cgk.content_of(NEW.sealed_lines)::jsonb, '[]');
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION cgk.keep_member_alike() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.sealed_result IS NULL AND NEW.sealed_error IS NULL THEN
        NEW.sealed_result := cgk.sealed_of(NEW.result::text);
        NEW.sealed_error := cgk.sealed_of(NEW.error);
        IF TG_OP = 'INSERT' THEN
            PERFORM cgk.note_old_form();
        END IF;
    ELSE
        NEW.result := cgk.content_of(NEW.sealed_result)::json;
        NEW.error := cgk.content_of(NEW.sealed_error);
    END IF;
    RETURN NEW;
END
$$;

CREATE FUNCTION cgk.keep_tenant_schedule_alike() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_unsealed boolean := NEW.sealed_payload IS NULL;
    is_old boolean := is_unsealed;
BEGIN
    IF TG_OP = 'UPDATE' AND NOT is_unsealed THEN
        is_old := NEW.payload::text IS DISTINCT FROM OLD.payload::text;
    END IF;
    IF is_old THEN
        NEW.sealed_payload := cgk.sealed_of(NEW.payload::text);
        IF TG_OP = 'INSERT' OR NOT is_unsealed THEN
            PERFORM cgk.note_old_form();
        END IF;
    ELSE
        NEW.payload := cgk.content_of(NEW.sealed_payload)::json;
    END IF;
    RETURN NEW;
END
$$;
"""

TRIGGERS = """
-- Two for updates: one for statements that change content, which need not be asked about the rows; and one for any other,
-- which acts on rows that are not converted yet. So a worker of this release may claim those too.
CREATE TRIGGER keep_alike_inserted BEFORE INSERT ON cgk.runs FOR EACH ROW EXECUTE FUNCTION cgk.keep_run_alike();
CREATE TRIGGER keep_alike_changed
    BEFORE UPDATE OF payload, canvas, cursor, put_off, errors, sealed_payload, sealed_canvas, sealed_cursor,
                     sealed_deferral, sealed_errors ON cgk.runs
    FOR EACH ROW EXECUTE FUNCTION cgk.keep_run_alike();
CREATE TRIGGER keep_alike_unsealed BEFORE UPDATE ON cgk.runs
    FOR EACH ROW WHEN (NEW.sealed_payload IS NULL) EXECUTE FUNCTION cgk.keep_run_alike();

CREATE TRIGGER keep_alike_inserted BEFORE INSERT ON cgk.run_history
    FOR EACH ROW EXECUTE FUNCTION cgk.keep_history_alike();
CREATE TRIGGER keep_alike_unsealed BEFORE UPDATE ON cgk.run_history
    FOR EACH ROW WHEN (NEW.sealed_payload IS NULL) EXECUTE FUNCTION cgk.keep_history_alike();

CREATE TRIGGER keep_alike BEFORE INSERT OR UPDATE ON cgk.run_logs
    FOR EACH ROW EXECUTE FUNCTION cgk.keep_log_alike();
CREATE TRIGGER keep_alike BEFORE INSERT OR UPDATE ON cgk.group_members
    FOR EACH ROW EXECUTE FUNCTION cgk.keep_member_alike();
CREATE TRIGGER keep_alike BEFORE INSERT OR UPDATE ON cgk.tenant_schedules
    FOR EACH ROW EXECUTE FUNCTION cgk.keep_tenant_schedule_alike();
"""


# In the order in which a statement that closes a run has them.
LOCKS = "LOCK TABLE cgk.run_history, cgk.runs IN ACCESS EXCLUSIVE MODE"


def upgrade() -> None:
    op.execute(LOCKS)
    op.execute(COLUMNS)
    op.execute(FUNCTIONS)
    op.execute(TRIGGERS)
