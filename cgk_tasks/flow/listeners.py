"""Which queues a living worker listens to, as senders know it: a run in another queue waits, and its sender is told."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterable

import psycopg

from cgk_tasks.config import get_settings
from cgk_tasks.recurring import Reminders
from cgk_tasks.runs.models import NewRun
from cgk_tasks.runtime import Part
from cgk_tasks.sql.postgres import autocommit, fetch, statements

SQL = statements("queues")
log = logging.getLogger("cgk_tasks.sender")
"""Not structlog's, which writes to the standard output where nobody has configured it: senders are any programs."""

_TRUST_SECONDS = 10.0
_DOUBT_SECONDS = 1.0
"""So old may the knowledge be that a queue has no worker: one may have started since."""


class Listeners:
    """Asked at each send, so it asks PostgreSQL only now and then."""

    def __init__(self) -> None:
        self._reminders = Reminders()
        self._served: frozenset[str] | None = None
        self._asked_at = -math.inf

    def warn_of_unserved(self, runs: Iterable[NewRun]) -> None:
        """Log a line for each queue of these runs that no living worker listens to, once a minute for each."""
        queues = {run.queue for run in runs}
        unserved = self._unserved(queues)
        if time.monotonic() - self._asked_at >= (_DOUBT_SECONDS if unserved else _TRUST_SECONDS):
            self._ask()
            unserved = self._unserved(queues)
        if not unserved:
            return
        for queue in filter(self._reminders.is_time, sorted(unserved)):
            log.warning(
                "No living worker listens to queue %r, so its runs wait; workers listen to %s. Is its name right? "
                "Start a worker with -Q %s, or add the queue to CGK_QUEUES of the workers.",
                queue, ", ".join(sorted(self._served or ())) or "none", queue,
            )  # fmt: skip

    def _unserved(self, queues: set[str]) -> set[str]:
        """Those of the queues that no worker listens to; none while nothing is known."""
        return set() if self._served is None else queues - self._served

    def _ask(self) -> None:
        self._asked_at = time.monotonic()  # first: other threads need not ask as well
        try:
            self._served = served_queues()
        except psycopg.Error:
            self._served = None  # the send has worked, and that is what counts


def served_queues() -> frozenset[str]:
    """The queues that a living worker listens to, asked now."""
    with autocommit() as connection:
        rows = fetch(connection, SQL["served"], {"timeout": get_settings().worker_timeout_seconds})
    return frozenset(row["queue"] for row in rows)


LISTENERS = Part(Listeners)
