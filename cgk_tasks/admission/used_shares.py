"""What tenants have of each queue's workers, by minutes: the last hour of it, for the dashboard.

The leader looks every other second at what each process of the workers executes. That costs the runs nothing, and a
look costs the same whether runs are short or long: it reads what is running just now. So short runs are counted as they
are met, like by any sampling profiler; over minutes that comes to the same. To add up the history would not be better:
the runs of a packet are claimed together and end together there, so each of them would count for the whole packet.
"""

from __future__ import annotations

import random
import time
from typing import Final

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.sql.duty_cycle import DutyCycle
from cgk_tasks.sql.postgres import autocommit, execute, statements

SQL = statements("used_shares")

_LOOK_SECONDS: Final = 2.0
"""Half a second more or less, so that what comes at regular times is not always met, or never."""
_LONGEST_SECONDS: Final = 12.0
"""Looks are further apart where they last long."""
_FORGET_SECONDS: Final = 600.0


class UsedShares:
    """Of the leader. Losing a look harms nobody."""

    def __init__(self) -> None:
        self._looked_at = self._look_at = self._forget_at = 0.0
        self._looks = DutyCycle()

    def note_now_and_then(self) -> None:
        """Look, if it is time."""
        now = time.monotonic()
        if now < self._look_at or not self._looks.is_time:
            return
        since, self._looked_at = now - self._looked_at, now
        self._look_at = now + _LOOK_SECONDS + random.uniform(-0.5, 0.5)  # noqa: S311 - no secret
        # After a longer pause, while another worker led, only the usual time.
        seconds = since if since <= _LONGEST_SECONDS else _LOOK_SECONDS
        try:
            with self._looks.measured(), autocommit() as connection:
                execute(connection, SQL["note"], {"seconds": seconds, "timeout": get_settings().worker_timeout_seconds})
                if now >= self._forget_at:
                    self._forget_at = now + _FORGET_SECONDS
                    execute(connection, SQL["forget"])
        except psycopg.Error:
            return  # not migrated yet, or away: the next look, or whoever needs PostgreSQL more, finds out
