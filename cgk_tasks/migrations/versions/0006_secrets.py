"""Secrets: a second one of an endpoint for a time, and where all of them are."""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLES = """
-- old_secret: the one before, which deliveries are signed with as well until old_secret_until.
ALTER TABLE cgk.webhook_endpoints ADD COLUMN old_secret text, ADD COLUMN old_secret_until timestamptz;

-- Everything that is encrypted with CGK_ENCRYPTION_KEYS, and may be plain from before that. A sender's address is no secret.
CREATE VIEW cgk.stored_secrets AS
SELECT 'tenant_setting' AS place, tenant_id, name AS id, value FROM cgk.tenant_settings WHERE name <> 'email_from'
UNION ALL
SELECT 'webhook_secret', tenant_id, id::text, secret FROM cgk.webhook_endpoints
UNION ALL
SELECT 'old_webhook_secret', tenant_id, id::text, old_secret FROM cgk.webhook_endpoints WHERE old_secret IS NOT NULL;
"""


def upgrade() -> None:
    op.execute(TABLES)
