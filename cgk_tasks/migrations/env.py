"""Alembic's entry: runs what is to be run on CGK_DATABASE_URL in one transaction, one process at a time."""

import sqlalchemy as sa
from alembic import context

from cgk_tasks.migrations.apply import SCHEMA
from cgk_tasks.migrations.patience import LOCK_TIMEOUT_SECONDS
from cgk_tasks.sql.sqlalchemy_engine import engine

MIGRATION_LOCK = 4_216_201_001

with engine().connect() as connection:
    connection.execute(sa.text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATION_LOCK})
    # From here on: the lock above is waited for as long as another process migrates.
    connection.execute(sa.text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_SECONDS * 1000:g}ms'"))
    # Asked first: IF NOT EXISTS wants the right to create schemas even where an administrator has made this one.
    if not connection.scalar(sa.text("SELECT 1 FROM pg_namespace WHERE nspname = :name"), {"name": SCHEMA}):
        connection.execute(sa.text(f"CREATE SCHEMA {SCHEMA}"))
    context.configure(connection=connection, version_table_schema=SCHEMA)
    context.run_migrations()
    connection.commit()
