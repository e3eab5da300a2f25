"""Where a run goes whose sender names no queue or priority: where its job wants to be.

A sender need not import the modules of the jobs. What their workers say on record it learns every some seconds.
"""

from __future__ import annotations

import threading
import time

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.jobs.registry import jobs_for, route_of
from cgk_tasks.runs.job_events import Route, noted_routes
from cgk_tasks.runs.models import DEFAULT_PRIORITY
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit

_TRUST_SECONDS = 10.0


class Routes:
    """Asked at each send, so it asks PostgreSQL only now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, Route] = {}
        self._ask_at = 0.0

    def of(self, event: str) -> tuple[str, int]:
        """The queue and the priority of the event's runs: its jobs', as they are here or as a worker says, or the
        default.
        """
        route = route_of(event) if jobs_for(event) else self._as_noted().get(event)
        if route is None:
            return get_settings().default_queue, DEFAULT_PRIORITY
        return (
            route.queue or get_settings().default_queue,
            DEFAULT_PRIORITY if route.priority is None else route.priority,
        )

    def _as_noted(self) -> dict[str, Route]:
        now = time.monotonic()
        if now < self._ask_at:
            return self._noted
        with self._lock:
            if now < self._ask_at:
                return self._noted
            self._ask_at = now + _TRUST_SECONDS
            try:
                with autocommit() as connection:
                    self._noted = noted_routes(connection)
            except psycopg.Error:
                pass  # the send itself tells what is wrong
        return self._noted


ROUTES = Part(Routes)
