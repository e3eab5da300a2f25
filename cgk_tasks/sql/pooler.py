"""What a pooler in front of PostgreSQL does not pass on."""

from __future__ import annotations

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.sql.connecting import CONNECT_WITH, REFUSED_BY_A_POOLER
from cgk_tasks.sql.urls import parameters


def takes_search_path(schema: str) -> bool:
    """Whether a connection can be made with this search_path. PgBouncer refuses it, or is told to ignore it.

    Raises psycopg.Error.
    """
    values = CONNECT_WITH | parameters(get_settings().database)
    options = f"{values.get('options', '')} -c search_path={schema}".strip()
    try:
        with psycopg.connect(**{**values, "options": options}, prepare_threshold=None, autocommit=True) as connection:
            (found,) = connection.execute("SHOW search_path").fetchone() or ("",)
    except psycopg.OperationalError as exc:
        if REFUSED_BY_A_POOLER in str(exc):
            return False
        raise
    return bool(found == schema)
