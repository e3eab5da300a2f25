"""A table for large payloads, which are written once and not moved with their runs."""

from alembic import op

revision = "0033"
down_revision = "0032"
branch_labels = None
depends_on = None

TABLES = """
-- The payload of a run whose row has a reference in its place: the byte FE, the run's id and the id here. Sealed with the
-- key of the run's row. Only runs/bodies.py reads and writes it.
CREATE TABLE cgk.run_bodies (
    run_id         uuid        NOT NULL,
    id             uuid        NOT NULL,
    tenant_id      text        NOT NULL,
    made_at        timestamptz NOT NULL DEFAULT now(),
    sealed_payload bytea       NOT NULL,
    PRIMARY KEY (run_id, id)
) PARTITION BY RANGE (run_id);

-- Catches the rows of days for which no partition was made in time, and of runs whose id is of another kind.
CREATE TABLE cgk.run_bodies_rest PARTITION OF cgk.run_bodies DEFAULT;

-- For SQL of operators: a run's payload as it is sealed, wherever it is. stored: the column sealed_payload of its row.
CREATE FUNCTION cgk.whole_payload(run_id uuid, stored bytea) RETURNS bytea LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN length(stored) = 33 THEN coalesce((
        SELECT b.sealed_payload FROM cgk.run_bodies b
         WHERE b.run_id = whole_payload.run_id AND b.id = encode(substr(stored, 18), 'hex')::uuid), stored)
    ELSE stored END
$$;
"""


def upgrade() -> None:
    op.execute(TABLES)
