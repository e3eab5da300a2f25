"""The schema of django-celery-beat's tables, where Django runs with the settings of cgk_tasks."""

from __future__ import annotations

from typing import Final

from cgk_tasks.errors import ConfigurationError
from cgk_tasks.sql.pooler import takes_search_path

SCHEMA: Final = "cgk_beat"


def require_own_schema() -> None:
    """Raise ConfigurationError where a pooler keeps Django from its schema: the tables would be made, or looked for,
    somewhere else. Raises psycopg.Error.
    """
    if not takes_search_path(SCHEMA):
        raise ConfigurationError(
            "Beat, `cgk-tasks migrate` and `cgk-tasks admin` cannot work through PgBouncer, which does not pass on the "
            f"search_path of django-celery-beat's tables ({SCHEMA}).",
            hint="Give these processes a CGK_DATABASE_URL that leads to PostgreSQL itself. Workers and senders may "
            "keep theirs.",
        )
