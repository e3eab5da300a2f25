"""Where a run goes whose sender names no queue or priority: where its job wants to be. And what limits it.

A sender need not import the modules of the jobs. What their workers say on record it learns every some seconds.
"""

from __future__ import annotations

import threading
import time

import psycopg

from cgk_tasks.admission.declared import Declared, SendRules, limits_of, send_rules_of
from cgk_tasks.config import get_settings
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.jobs.registry import are_limits_declared, find_route
from cgk_tasks.runs.job_events import Route, noted_routes
from cgk_tasks.runs.models import DEFAULT_PRIORITY
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit

_TRUST_SECONDS = 10.0
_ANYWHERE = Route()


class Routes:
    """Asked at each send, so it asks PostgreSQL only now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[str, Route] = {}
        self._is_limited = False
        self._ask_at = 0.0

    def of(self, event: str) -> Route | None:
        """What the event's jobs want, as they are here or as a worker says; None if nobody says anything."""
        here = find_route(event)
        if here is not None:
            return here
        if time.monotonic() >= self._ask_at:
            self._ask()
        return self._noted.get(event)

    def of_send(self, event: str) -> tuple[str, int, SendRules | None]:
        """The queue and priority, with the defaults where nothing is said, and what decides about the event's runs."""
        queue, priority, _limits, rules = self.of(event) or _ANYWHERE
        return (
            queue or get_settings().default_queue,
            DEFAULT_PRIORITY if priority is None else priority,
            None if rules is None else send_rules_of(rules),
        )

    def queue_and_priority(self, event: str) -> tuple[str, int]:
        """The queue and priority alone."""
        return self.of_send(event)[:2]

    def rules(self, event: str) -> SendRules | None:
        """What decides about the event's runs when they are sent."""
        return self.of_send(event)[2]

    def ttl(self, event: str) -> float | None:
        """Seconds from when the event's runs are due, after which they do not start any more; None for no end."""
        rules = self.rules(event)
        return None if rules is None else rules.ttl

    @property
    def know_limits(self) -> bool:
        """Whether any job is limited, here or as a worker says."""
        return are_limits_declared() or self._is_limited

    def limits(self, event: str) -> Declared | None:
        """What limits the event's runs; None for nothing, or if it has several jobs, each of which gets a run."""
        route = self.of(event)
        return None if route is None or route.limits is None else limits_of(route.limits)

    def _ask(self) -> None:
        with self._lock:
            now = time.monotonic()
            if now < self._ask_at:
                return
            self._ask_at = now + _TRUST_SECONDS
            try:
                with autocommit() as connection:
                    self._noted = noted_routes(connection)
                self._is_limited = any(route.limits is not None for route in self._noted.values())
            except (psycopg.Error, ConfigurationError):
                pass  # the send itself tells what is wrong, if it needs PostgreSQL


ROUTES = Part(Routes)
