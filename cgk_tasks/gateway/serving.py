"""Serving the application with uvicorn, until Ctrl-C or SIGTERM."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Final

import uvicorn

from cgk_tasks.gateway.asgi import make_application
from cgk_tasks.gateway.metrics import serve_metrics
from cgk_tasks.gateway.watching import end_streams

_GRACE_SECONDS: Final = 30


class _Server(uvicorn.Server):
    """Says when it listens, and ends its streams when it is told to end, or it would wait for them."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[int], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets:
            self._ready(sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        end_streams()
        await super().shutdown(sockets)


def serve(host: str, port: int, ready: Callable[[int], object]) -> None:
    """Serve on this address. `ready` is called with the port that listens. Raises ConfigurationError, OSError.

    uvicorn's own log of requests is off: addresses have tokens of signals, and what is searched for.
    """
    config = uvicorn.Config(
        make_application(), host=host, port=port, access_log=False, log_config=None, log_level="warning",
        server_header=False, proxy_headers=False, lifespan="off", ws="none", timeout_graceful_shutdown=_GRACE_SECONDS,
    )  # fmt: skip
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio lets answers go at once (TCP_NODELAY) only where it sees that it is TCP; else each waits some 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        serve_metrics()
        _Server(config, ready).run([listener])
