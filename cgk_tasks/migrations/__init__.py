"""Migrations of the schema `cgk`, run with `cgk-tasks migrate` (Alembic underneath)."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from cgk_tasks.sql.sqlalchemy_engine import engine

SCHEMA = "cgk"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def migrate(revision: str = "head") -> str:
    """Bring the schema `cgk` to `revision`; safe to repeat, and when several processes start at once."""
    command.upgrade(_config(), revision)
    return current() or ""


def current() -> str | None:
    """The revision that the database is at, or None if it was never migrated."""
    with engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision()


def newest() -> str | None:
    """The newest revision that this version of cgk_tasks knows."""
    return ScriptDirectory.from_config(_config()).get_current_head()
