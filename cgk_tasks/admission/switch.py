"""Whether runs are admitted by passes here: everybody who works on this database must know of it."""

from __future__ import annotations

import threading
import time

from cgk_tasks.config import get_settings
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, fetch_or_before, statements

SQL = statements("admission")

INDEXES = ("runs_in_lane", "runs_in_slot", "runs_unlaned")
"""Without these a pass would read all open runs."""


class Switch:
    """As of CGK_RULES_REFRESH_SECONDS ago at most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ask_at = 0.0
        self._has_lanes = self._is_on = self._is_fair = self._has_limits = self._has_send_rules = False
        self._decides_sends = False
        self.has_guards = False
        """Whether guards are on record here, as of the last look: this asks nothing."""
        self._flow_version: int | None = None

    @property
    def has_lanes(self) -> bool:
        """Whether the tables and indexes are there."""
        self._ask_now_and_then()
        return self._has_lanes

    @property
    def is_on(self) -> bool:
        """Whether they are, and no worker lives that does not know them. Raises psycopg.Error."""
        self._ask_now_and_then()
        return self._is_on

    @property
    def is_fair(self) -> bool:
        """Whether all of them also let runs of crowded queues out of lanes. Raises psycopg.Error."""
        self._ask_now_and_then()
        return self._is_fair

    @property
    def has_limits(self) -> bool:
        """Whether workers may say what limits their jobs have."""
        self._ask_now_and_then()
        return self._has_limits

    @property
    def has_send_rules(self) -> bool:
        """Whether they may also say what decides about runs when they are sent."""
        self._ask_now_and_then()
        return self._has_send_rules

    @property
    def decides_sends(self) -> bool:
        """Whether they count: no worker lives that does not know what they make of sends. Raises psycopg.Error."""
        self._ask_now_and_then()
        return self._decides_sends

    @property
    def flow_version(self) -> int:
        """Grows with each change of what is set on record for tenants, jobs and pauses; 0 where nothing ever was, or
        where nobody makes passes. Raises psycopg.Error.
        """
        self._ask_now_and_then()
        return self._flow_version or 0 if self._is_on else 0

    @property
    def trusted_until(self) -> float:
        """When PostgreSQL is asked again, by the clock of `time.monotonic`."""
        return self._ask_at

    def _ask_now_and_then(self) -> None:
        if time.monotonic() < self._ask_at:
            return
        with self._lock:
            if time.monotonic() < self._ask_at:
                return
            settings = get_settings()
            values = {"indexes": list(INDEXES), "timeout": settings.worker_timeout_seconds}
            with autocommit() as connection:
                found = fetch_or_before(connection, SQL["is_on"], SQL["is_on_before_plans"], values)[0]
            self._has_lanes = found["has_tables"] and found["has_indexes"]
            self._is_on = self._has_lanes and found["all_know"]
            self._has_limits = found["has_limits"]
            self._has_send_rules = found["has_send_rules"]
            self.has_guards = self._is_on and found["has_guards"]
            self._decides_sends = self._has_send_rules and found["all_merge"]
            self._is_fair = self._is_on and found["all_are_fair"]
            self._flow_version = found["flow_version"]
            self._ask_at = time.monotonic() + settings.rules_refresh_seconds


SWITCH = Part(Switch)
