"""The key that tenants' credentials and webhook secrets are encrypted with."""

from __future__ import annotations

import psycopg

from cgk_tasks.cli.output import say
from cgk_tasks.cli.setup.draft import Draft
from cgk_tasks.cli.setup.found import KEYS
from cgk_tasks.config.encryption_keys import new_key
from cgk_tasks.sql.postgres import autocommit, fetch, statements


def settle_key(draft: Draft) -> None:
    """Decide on a new key if none is configured, unless the database has secrets that need another one.

    Private servers bring a key of their own.
    """
    if draft.find(KEYS) is not None:
        return
    if needed := _keys_in_use():
        say(
            f"warning: this database has secrets that need the key {', '.join(needed)}. Copy {KEYS[0]} from where "
            "it is set: "
            "without it, jobs that need these secrets fail."
        )
        return
    draft.set(KEYS, new_key())


def _keys_in_use() -> list[str]:
    try:
        with autocommit() as connection:
            rows = fetch(connection, statements("secrets")["count_secrets"])
    except psycopg.errors.UndefinedTable:  # not migrated yet
        return []
    return [row["key_id"] for row in rows if row["key_id"] is not None]
