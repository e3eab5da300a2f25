"""No broker: with CGK_BROKER_URL=postgresql, workers inside applications look in PostgreSQL for what was dispatched.

A dispatch is the mark in the record, which its sender makes anyway. All that is left to do is to wake the worker of
this process; those of others look by themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from cgk_tasks.broker.envelope import Message, Waiting
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_postgresql
from cgk_tasks.errors import ConfigurationError
from cgk_tasks.runtime import Part

WAKE: Final = Part(threading.Event, of_settings=False)
"""Set where something was dispatched, or a place in the worker of this process is free."""

_NOTHING_IS_LOST: Final = Waiting(datetime(1970, 1, 1, tzinfo=UTC), ())
"""What is dispatched stays where it is: no dispatch is older than the oldest message."""


class NoBroker:
    """As the publishers to brokers."""

    def prepare(self, messages: Sequence[Message]) -> None: ...

    def publish(self, messages: Sequence[Message]) -> dict[str, int | None]:
        WAKE.current().set()
        return dict.fromkeys(message.queue for message in messages)

    def oldest_waiting(self, queue: str, priority: int) -> Waiting | None:  # noqa: ARG002 - of all the same
        return _NOTHING_IS_LOST

    def call(self, channel: str, text: str) -> None: ...
    def ping(self) -> None: ...
    def close(self) -> None: ...


def has_broker() -> bool:
    """Whether the settings name Redis or RabbitMQ."""
    settings = get_settings()
    return settings.broker_url is None or not is_postgresql(settings.broker)


def refuse_without_record(name: str) -> None:
    """Raises ConfigurationError for an event or task that leaves no record, where there is no broker to carry it."""
    if not has_broker():
        raise ConfigurationError(
            f"{name} leaves no record (durable=False), and with CGK_BROKER_URL=postgresql nothing else would carry it.",
            hint="Leave durable=False out, or set CGK_BROKER_URL to Redis or RabbitMQ.",
        )
