"""Migrations of the schema `cgk`, run with `cgk-tasks migrate` (Alembic underneath)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cgk_tasks.extras import require_extra

if TYPE_CHECKING:
    from alembic.config import Config

SCHEMA = "cgk"


def _config() -> Config:
    require_extra("migrate", "The command migrate")
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config


def migrate(revision: str = "head") -> str:
    """Bring the schema `cgk` to `revision`; safe to repeat, and when several processes start at once."""
    config = _config()
    from alembic import command

    command.upgrade(config, revision)
    return current() or ""


def current() -> str | None:
    """The revision that the database is at, or None if it was never migrated."""
    require_extra("migrate", "The revision of the database")
    from alembic.runtime.migration import MigrationContext

    from cgk_tasks.sql.sqlalchemy_engine import engine

    with engine().connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table_schema": SCHEMA})
        return context.get_current_revision()


def newest() -> str | None:
    """The newest revision that this version of cgk_tasks knows."""
    config = _config()
    from alembic.script import ScriptDirectory

    return ScriptDirectory.from_config(config).get_current_head()
