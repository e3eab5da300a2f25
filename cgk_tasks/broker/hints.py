"""Hints to the leader: a run has been sent that is due before the leader looks again.

The leader of an idle system looks once a second. A run that is sent with a shorter delay would be late, so its
sender says so through a channel in Redis, to which the leader listens. A send without a delay, or with a longer one,
says nothing. A hint may be lost: then the run is dispatched at the leader's next look.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cgk_tasks.broker.publisher import get_publisher
from cgk_tasks.config import get_settings
from cgk_tasks.config.broker_url import is_redis, redis_py_url
from cgk_tasks.errors import BrokerError
from cgk_tasks.sql.clock import known_now

_CHANNEL: Final = "cgk:due"
_INTERVALS: Final = 4
_LONGEST_SECONDS: Final = 1.0
_OF_THE_TIMEOUT: Final = 1 / 12
"""The lease of the leader lasts a third of it, and is renewed at such looks."""
_CONNECT_SECONDS: Final = 1.0
_LISTEN_SECONDS: Final = 60.0
"""So long the listener sleeps if nobody says anything; then it asks whether Redis is there."""
_TRY_AGAIN_SECONDS: Final = 5.0


class MayBeDue(Protocol):
    """A run, with the time at which it is due if that is not now."""

    @property
    def run_at(self) -> datetime | None: ...


def longest_pause() -> float:
    """Seconds between two looks of a leader that hears hints, while nothing happens."""
    settings = get_settings()
    interval = settings.dispatch_interval_seconds
    return max(
        interval, min(interval * _INTERVALS, _LONGEST_SECONDS, settings.worker_timeout_seconds * _OF_THE_TIMEOUT)
    )


def hint(runs: Iterable[MayBeDue]) -> None:
    """Wake the leader if one of these runs is due before it would look. They are on record by now."""
    due = min((run.run_at for run in runs if run.run_at is not None), default=None)
    if due is None or due - known_now() > timedelta(seconds=longest_pause()) or not _are_given():
        return
    with suppress(BrokerError):
        get_publisher().call(f"{get_settings().key_prefix}{_CHANNEL}", "")


def _are_given() -> bool:
    """Whether there is a Redis for them: a run that only waits needs no broker to be sent."""
    settings = get_settings()
    return settings.broker_url is not None and is_redis(settings.broker)


class Hints(threading.Thread):
    """Hears them. on_hint: called at each, and when hints are heard again after a time in which one may have been lost,
    in a thread that must not wait.
    """

    def __init__(self, on_hint: Callable[[], object]) -> None:
        super().__init__(name="cgk-hints", daemon=True)
        settings = get_settings()
        self._on_hint = on_hint
        self._channel = f"{settings.key_prefix}{_CHANNEL}"
        self._client = redis.Redis.from_url(
            redis_py_url(settings.broker), socket_connect_timeout=_CONNECT_SECONDS, health_check_interval=25,
            retry=Retry(NoBackoff(), 0),  # what was lost meanwhile is known here alone
        )  # fmt: skip
        self._pubsub: Any = None
        self._closed = threading.Event()
        self.are_heard = False
        """Whether one that is given now arrives."""

    def run(self) -> None:
        while not self._closed.is_set():
            with suppress(redis.RedisError, OSError, ValueError):  # ValueError: it was closed amid a read
                self._listen()
            self.are_heard = False
            self._closed.wait(_TRY_AGAIN_SECONDS)
        self._client.close()

    def close(self) -> None:
        """Hear no more, and end the thread."""
        self._closed.set()
        sock = getattr(getattr(self._pubsub, "connection", None), "_sock", None)
        if sock is not None:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)  # whoever reads it sees that it has ended
        self.join(timeout=_CONNECT_SECONDS)

    def _listen(self) -> None:
        with self._client.pubsub() as pubsub:  # type: ignore[no-untyped-call]  # redis-py has no types here
            self._pubsub = pubsub
            pubsub.subscribe(self._channel)
            while not self._closed.is_set():
                message: Any = pubsub.get_message(timeout=_LISTEN_SECONDS)
                if message is None:
                    continue
                self.are_heard = True  # also at the answer to the subscription, the first message of all
                self._on_hint()


def new_hints(on_hint: Callable[[], object]) -> Hints | None:
    """A listener that has been started; None where senders give no hints, as their broker is not Redis."""
    if not _are_given():
        return None
    hints = Hints(on_hint)
    hints.start()
    return hints
