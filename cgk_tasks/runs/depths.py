"""How many runs wait in each queue, and for how long: a look once in a while, kept by minutes and hours."""

from __future__ import annotations

from cgk_tasks.sql.postgres import autocommit, execute, statements

SQL = statements("counts")


def note_depths() -> None:
    """Look at what is due and has not begun. Reads the open runs once: half a second with a million of them.

    Raises psycopg.Error.
    """
    with autocommit() as connection:
        execute(connection, SQL["note_depths"])
