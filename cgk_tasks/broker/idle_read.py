"""How long a worker that has nothing to do waits for Redis's answer, and how somebody ends that wait.

Kombu reads with a BRPOP of one second, and waits for its answer before it closes the connection. Each answer wakes the
worker for nothing, so here it is five seconds, where another connection may end the wait: who closes, cancels or adds a
queue meanwhile waits for nothing. Redis decides whether a message or the end of the wait comes first, so none is lost.
"""

from __future__ import annotations

import select
from contextlib import suppress
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

_LONG_SECONDS: Final = 5.0
"""So long a message may also go to a worker whose machine has gone without a word; its run is dispatched again."""
_TRIES: Final = 10
_TRY_AGAIN_MILLISECONDS: Final = 50
_PATIENCE_SECONDS: Final = 1.0


class IdleRead:
    """Of one channel, whose connections may change."""

    def __init__(self) -> None:
        self._socket: Any = None
        self._reader: int | None = None

    def seconds(self, connection: Any, otherwise: float) -> float:
        """How long the next read may wait; `otherwise` where nobody could end that. Raises what redis-py does."""
        if connection._sock is None or connection._sock is not self._socket:  # noqa: SLF001 - as Kombu does
            self._reader = _client_id(connection)
            self._socket = connection._sock  # noqa: SLF001
        return otherwise if self._reader is None else max(_LONG_SECONDS, otherwise)

    def end(self, connection: Any, pool: Any) -> None:
        """Have Redis answer the read that is under way on this connection. It raises nothing."""
        reading = connection._sock  # noqa: SLF001
        if self._reader is None or reading is not self._socket or _is_readable(reading):
            return
        limits = {"socket_timeout": _PATIENCE_SECONDS, "socket_connect_timeout": _PATIENCE_SECONDS}
        other = pool.connection_class(**(pool.connection_kwargs | limits))
        with suppress(RedisError, OSError):
            for _ in range(_TRIES):  # the read itself may have been sent, and not have arrived
                other.send_command("CLIENT", "UNBLOCK", self._reader)
                other.read_response()
                if _is_readable(reading, _TRY_AGAIN_MILLISECONDS):
                    break
        other.disconnect()


def _client_id(connection: Any) -> int | None:
    """By which Redis knows this connection; None if this user may not end the wait of one."""
    connection.send_command("CLIENT", "ID")
    connection.send_command("CLIENT", "UNBLOCK", 0)
    found = []
    for _ in range(2):
        try:
            found.append(int(connection.read_response()))
        except ResponseError:
            found.append(-1)
    return found[0] if min(found) >= 0 else None


def _is_readable(sock: Any, milliseconds: int = 0) -> bool:
    """Also where the connection was lost: whoever reads sees that."""
    poller = select.poll()
    poller.register(sock, select.POLLIN)
    return bool(poller.poll(milliseconds))
