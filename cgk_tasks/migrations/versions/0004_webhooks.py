"""Settings of single tenants; webhooks: endpoints, messages and their deliveries."""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

TABLES = """
-- What a tenant has instead of the platform's: senders and credentials of the built-in jobs. As secret as the payloads,
-- and like them only for the login's own role: the tenants' roles see nothing of the schema cgk.
CREATE TABLE cgk.tenant_settings (
    tenant_id  text        NOT NULL REFERENCES cgk.tenants ON DELETE CASCADE,
    name       text        NOT NULL,
    value      text        NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, name)
);

-- topics: names, `order.*` or `*`. failing_since: the first of the failures since the last success.
CREATE TABLE cgk.webhook_endpoints (
    id                  uuid PRIMARY KEY,
    tenant_id           text        NOT NULL REFERENCES cgk.tenants ON DELETE CASCADE,
    url                 text        NOT NULL,
    topics              text[]      NOT NULL,
    secret              text        NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    failing_since       timestamptz,
    switched_off_at     timestamptz,
    switched_off_reason text,
    checked_at          timestamptz,
    check_outcome       text
);
CREATE INDEX webhook_endpoints_tenant ON cgk.webhook_endpoints (tenant_id);

-- What is delivered. Its id is the header webhook-id, the same for every endpoint and attempt.
CREATE TABLE cgk.webhook_messages (
    id          uuid PRIMARY KEY,
    tenant_id   text        NOT NULL REFERENCES cgk.tenants ON DELETE CASCADE,
    event_id    text        NOT NULL,
    source      text        NOT NULL,
    topic       text,
    body        json,
    received_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, event_id)
);
CREATE INDEX webhook_messages_received ON cgk.webhook_messages (tenant_id, received_at);

-- next_at: not attempted before. An attempt that begins sets it to when it must have ended, so that nobody else
-- delivers meanwhile, and so that one whose process died is found.
CREATE TABLE cgk.webhook_deliveries (
    message_id   uuid        NOT NULL REFERENCES cgk.webhook_messages ON DELETE CASCADE,
    endpoint_id  uuid        NOT NULL REFERENCES cgk.webhook_endpoints ON DELETE CASCADE,
    state        text        NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'delivered', 'failed')),
    attempts     integer     NOT NULL DEFAULT 0,
    next_at      timestamptz NOT NULL DEFAULT now(),
    attempted_at timestamptz,
    seconds      float8,
    status       integer,
    excerpt      text,
    error        text,
    PRIMARY KEY (message_id, endpoint_id)
);
CREATE INDEX webhook_deliveries_endpoint ON cgk.webhook_deliveries (endpoint_id, attempted_at);
"""


def upgrade() -> None:
    op.execute(TABLES)
