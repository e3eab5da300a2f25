"""One beat leads; another takes over when its lease was not renewed for 10 s."""

from __future__ import annotations

import time
import uuid

import structlog

from cgk_tasks.sql.postgres import autocommit, execute, fetch, statements

SQL = statements("dispatch")
log = structlog.get_logger("cgk_tasks.schedules")

LEASE = "beat"
LEASE_SECONDS = 10.0


class Leadership:
    """The claim of this process to lead. Two leaders for a moment do no harm: a tick's row is inserted once."""

    def __init__(self) -> None:
        self.holder = str(uuid.uuid4())
        self._until = 0.0

    def take(self) -> bool:
        """Become or stay the leader. Raises psycopg.Error when PostgreSQL is away."""
        if self._until - time.monotonic() > LEASE_SECONDS / 2:
            return True
        led = time.monotonic() < self._until
        asked_at = time.monotonic()
        values = {"name": LEASE, "holder": self.holder, "seconds": LEASE_SECONDS}
        with autocommit() as connection:
            taken = bool(fetch(connection, SQL["take_lease"], values))
        self._until = asked_at + LEASE_SECONDS if taken else 0.0
        if taken and not led:
            log.info("beat_elected", holder=self.holder)
        elif led and not taken:
            log.warning("beat_standby", holder=self.holder)
        return taken

    def drop(self) -> None:
        """Let another one lead at once."""
        self._until = 0.0
        with autocommit() as connection:
            execute(connection, SQL["drop_lease"], {"name": LEASE, "holder": self.holder})
