"""Users of the dashboard with their roles and password hashes, and their sessions."""

from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

TABLES = r"""
-- Who has which role in the dashboard. A name with * in it is a pattern, for those who log in through Flower (OAuth,
-- --basic_auth); it has no password. like_pattern: the name as LIKE reads it.
-- version: a number of its own after each change of role or password, with which sessions end.
CREATE TABLE cgk.dashboard_users (
    name          text        NOT NULL,
    role          text        NOT NULL CHECK (role IN ('viewer', 'operator', 'admin')),
    password_hash text        CHECK (password_hash IS NULL OR strpos(name, '*') = 0),
    version       bigint      GENERATED ALWAYS AS IDENTITY,
    created_at    timestamptz NOT NULL DEFAULT now(),
    like_pattern  text        NOT NULL GENERATED ALWAYS AS (
        replace(replace(replace(replace(lower(name), '\', '\\'), '%', '\%'), '_', '\_'), '*', '%')) STORED
);
CREATE UNIQUE INDEX dashboard_users_name ON cgk.dashboard_users (lower(name));

-- A session is a random token, of which only the hash is here. It counts as long as its user's version is this one.
CREATE TABLE cgk.dashboard_sessions (
    token_hash      bytea       PRIMARY KEY,
    user_name       text        NOT NULL,
    account_version text        NOT NULL,
    created_at      timestamptz NOT NULL DEFAULT now(),
    expires_at      timestamptz NOT NULL
);
CREATE INDEX dashboard_sessions_expiry ON cgk.dashboard_sessions (expires_at);
"""


def upgrade() -> None:
    op.execute(TABLES)
