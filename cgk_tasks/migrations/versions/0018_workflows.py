"""What workflows remember and wait for: steps, mail, and the events that they take."""

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLES = """
-- A step of a run, by its name and how often that was used before. state: begun (it failed and is tried again), waiting,
-- intent (an effect that may have happened), done, failed, timed_out. awaits: the names of the mail that would end its
-- wait. wake_at: when its wait is over, or its next attempt due; infinity for never.
-- The step of place 0, of the kind `begin`, says with which version of its workflow the run began.
-- Ids are UUIDv7 and begin with the time: a partition is a day's runs.
CREATE TABLE cgk.steps (
    run_id        uuid        NOT NULL,
    name          text        NOT NULL,
    nth           integer     NOT NULL DEFAULT 1,
    place         integer     NOT NULL,
    kind          text        NOT NULL,
    state         text        NOT NULL,
    tenant_id     text        NOT NULL,
    key_id        text,
    sealed_result bytea,
    sealed_error  bytea,
    attempts      integer     NOT NULL DEFAULT 0,
    awaits        text[],
    wake_at       timestamptz,
    begun_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at      timestamptz,
    PRIMARY KEY (run_id, name, nth),
    CHECK (state IN ('begun', 'waiting', 'intent', 'done', 'failed', 'timed_out'))
) PARTITION BY RANGE (run_id);

-- Catches the steps of days for which no partition was made in time, and of runs whose id is of another kind.
CREATE TABLE cgk.steps_rest PARTITION OF cgk.steps DEFAULT;

-- What has come for a run and is not taken yet. key: of a sender that may send twice what counts once.
CREATE TABLE cgk.mail (
    run_id         uuid        NOT NULL,
    id             uuid        NOT NULL,
    name           text        NOT NULL,
    key            text,
    tenant_id      text        NOT NULL,
    key_id         text,
    sealed_payload bytea,
    sent_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    taken_at       timestamptz,
    PRIMARY KEY (run_id, id),
    UNIQUE (run_id, name, key)
) PARTITION BY RANGE (run_id);
CREATE TABLE cgk.mail_rest PARTITION OF cgk.mail DEFAULT;

-- The events that some workflow waits for, and the fields by which it knows its own.
CREATE TABLE cgk.awaited (
    event   text PRIMARY KEY,
    fields  text[]      NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT now()
);

-- Runs that wait for an event whose field has a value. Of values there are digests, since they are content.
CREATE TABLE cgk.event_waits (
    tenant_id text        NOT NULL,
    event     text        NOT NULL,
    field     text        NOT NULL,
    value     text        NOT NULL,
    run_id    uuid        NOT NULL,
    name      text        NOT NULL,
    since     timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (tenant_id, event, field, value, run_id, name)
);
CREATE INDEX event_waits_run ON cgk.event_waits (run_id);
CREATE INDEX event_waits_since ON cgk.event_waits (since);

-- Events of the awaited kinds, for a while: one that comes before the wait for it is not lost.
CREATE TABLE cgk.event_mail (
    tenant_id      text        NOT NULL,
    event          text        NOT NULL,
    field          text        NOT NULL,
    value          text        NOT NULL,
    id             uuid        NOT NULL,
    key_id         text,
    sealed_payload bytea       NOT NULL,
    sent_at        timestamptz NOT NULL DEFAULT clock_timestamp()
) PARTITION BY RANGE (sent_at);
CREATE INDEX event_mail_value ON cgk.event_mail (tenant_id, event, field, value, sent_at);
CREATE INDEX event_mail_sent ON cgk.event_mail (sent_at);
CREATE TABLE cgk.event_mail_rest PARTITION OF cgk.event_mail DEFAULT;
"""


def upgrade() -> None:
    op.execute(TABLES)
