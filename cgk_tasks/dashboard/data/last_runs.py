"""Since when so many runs were sent: by what the leader has counted, so that nobody counts them again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import psycopg

from cgk_tasks.dashboard.data.queries import SQL
from cgk_tasks.sql.postgres import Connection, Row, fetch, is_not_migrated


def last_of(connection: Connection, runs: int, before: datetime, tenant_id: str = "") -> datetime | None:
    """The time since which about so many runs were sent before another time, of one tenant or of all.

    To the millisecond. None if there were not so many, or where nobody counts yet.
    """
    values = {"tenant_id": tenant_id, "before": before, "most": runs}
    try:
        with connection.transaction():
            rows = fetch(connection, SQL["accepted_before"], values)
    except psycopg.Error as exc:
        if not is_not_migrated(exc):
            raise
        return None
    return since_of(rows, runs, before)


def since_of(rows: Iterable[Row], runs: int, before: datetime) -> datetime | None:
    """The same by counts of times, the last first. Within a time runs are taken to be spread evenly."""
    left = float(runs)
    for row in rows:
        length = timedelta(seconds=row["seconds"])
        end = min(row["begin"] + length, before)
        inside = row["accepted"] * ((end - row["begin"]) / length)
        if inside >= left:
            since: datetime = end - (end - row["begin"]) * (left / inside)
            return since.replace(microsecond=since.microsecond // 1000 * 1000)
        left -= inside
    return None
