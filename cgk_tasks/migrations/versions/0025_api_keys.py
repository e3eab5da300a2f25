"""Keys of the HTTP API, and the requests to it that carried an Idempotency-Key."""

from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None

KEYS = """
-- Whoever has the secret of a key may do what its scopes say, for its tenant. Of the secret its SHA-256 is kept: it is random,
-- so that nobody can find it by trying. prefix: how the key begins, by which it is known.
CREATE TABLE cgk.api_keys (
    id           uuid PRIMARY KEY,
    tenant_id    text        NOT NULL,
    name         text        NOT NULL,
    prefix       text        NOT NULL UNIQUE,
    secret_hash  bytea       NOT NULL CHECK (length(secret_hash) = 32),
    scopes       text[]      NOT NULL CHECK (cardinality(scopes) > 0),
    created_at   timestamptz NOT NULL DEFAULT now(),
    created_by   text        NOT NULL DEFAULT '',
    expires_at   timestamptz,
    revoked_at   timestamptz,
    last_used_at timestamptz
);
CREATE INDEX api_keys_tenant ON cgk.api_keys (tenant_id, created_at);
"""

REQUESTS = """
-- Requests with an Idempotency-Key: what they asked for, as a digest, and what they were answered. Without an answer one is in
-- progress, until locked_until: its process may have died.
CREATE TABLE cgk.api_requests (
    tenant_id    text        NOT NULL,
    key          text        NOT NULL,
    fingerprint  bytea       NOT NULL,
    holder       uuid        NOT NULL,
    locked_until timestamptz NOT NULL,
    expires_at   timestamptz NOT NULL,
    status       smallint,
    answer       text,
    PRIMARY KEY (tenant_id, key)
);
CREATE INDEX api_requests_expires ON cgk.api_requests (expires_at);
"""


def upgrade() -> None:
    op.execute(KEYS)
    op.execute(REQUESTS)
