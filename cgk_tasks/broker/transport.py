"""Kombu's Redis transport without acknowledgements, and with a guard for the moment in which Redis goes away.

PostgreSQL knows which runs are dispatched and which are claimed, so acknowledgements in Redis protect nothing and
are two thirds of a worker's cost. Without them a popped message is simply ours.
"""

from __future__ import annotations

import logging
from typing import Any

from kombu.transport import redis, virtual

log = logging.getLogger("cgk_tasks.transport")


class QoS(virtual.QoS):
    """Counts prefetched messages in memory; puts them back at shutdown if it can, and never fails over it."""

    def restore_unacked_once(self, stderr: Any = None) -> None:
        # When Redis is gone Celery closes the channel of a connection that it has taken apart already, and putting
        # messages back raises AttributeError, which ends the worker. The dispatcher dispatches those runs again.
        try:
            super().restore_unacked_once(stderr)
        except Exception as exc:  # noqa: BLE001
            if self._delivered is not None:
                self._delivered.clear()
            log.warning("Messages were not put back, their runs will be dispatched again: %r", exc)


class Channel(redis.Channel):
    ack_emulation = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = QoS  # type: ignore[assignment]  # Kombu swaps in this class's base itself


class Transport(redis.Transport):
    Channel = Channel
