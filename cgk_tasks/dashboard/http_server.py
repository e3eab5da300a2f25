"""The HTTP server of the dashboard and of Flower: sockets, which of both a request is for, and a limit to bodies that
holds before anybody is authenticated.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Awaitable
from typing import Any, Final

from tornado.httpserver import HTTPServer
from tornado.httputil import (
    HTTPConnection,
    HTTPHeaders,
    HTTPMessageDelegate,
    HTTPServerRequest,
    RequestStartLine,
    ResponseStartLine,
)
from tornado.netutil import bind_sockets, bind_unix_socket
from tornado.routing import AnyMatches, PathMatches, Rule, RuleRouter
from tornado.web import Application

from cgk_tasks.dashboard.access.client_address import TrustedProxies
from cgk_tasks.dashboard.flower_application import PATH
from cgk_tasks.errors import ConfigurationError

MOST_BODY_BYTES: Final = 1024 * 1024
_MOST_DISCARDED_BYTES = 16 * 1024 * 1024
"""So much of a body that is refused is read and thrown away, so that the client gets to read the answer."""


class Router(RuleRouter):
    """Sends requests of Flower's addresses to Flower, all others to the dashboard."""

    def __init__(self, dashboard: Application, flower: Application, prefix: str, proxies: TrustedProxies) -> None:
        flowers = PathMatches(rf"{re.escape(prefix)}(?:{PATH}(?:/.*)?|/metrics)$")
        super().__init__([Rule(flowers, flower), Rule(AnyMatches(), dashboard)])
        self._proxies = proxies

    def start_request(self, server_conn: object, request_conn: HTTPConnection) -> LimitedBody:
        """Every request, from its first byte."""
        return LimitedBody(super().start_request(server_conn, request_conn), request_conn)

    def find_handler(self, request: HTTPServerRequest, **options: Any) -> HTTPMessageDelegate | None:
        """Every request, once its headers are there."""
        self._proxies.apply(request)
        return super().find_handler(request, **options)


def listen(router: Router, options: Any, ssl_options: Any = None) -> int | None:
    """Listen as Flower's options say. Returns the port, None for a UNIX socket.

    Flower's `--xheaders` is not passed on: it would believe whoever writes the header. Raises ConfigurationError.
    """
    server = HTTPServer(router, ssl_options=ssl_options, max_body_size=_MOST_DISCARDED_BYTES)
    try:
        if options.unix_socket:
            server.add_socket(bind_unix_socket(options.unix_socket, mode=0o777))
            return None
        sockets = bind_sockets(options.port, address=options.address)
    except OSError as exc:
        raise ConfigurationError(_explained(exc, options)) from exc
    server.add_sockets(sockets)
    return int(sockets[0].getsockname()[1])


def _explained(exc: OSError, options: Any) -> str:
    if options.unix_socket:
        return (
            f"The socket {options.unix_socket} cannot be made: {os.strerror(exc.errno or 0)}. "
            "Choose another --unix_socket."
        )
    where = f"{options.address or '0.0.0.0'}:{options.port}"  # noqa: S104 - what an empty address means
    if exc.errno == errno.EADDRINUSE:
        return (
            f"The dashboard cannot listen on {where}: the port is in use. "
            f"Stop what listens there, or choose another port: --port={options.port + 1}"
        )
    if exc.errno == errno.EACCES:
        return (
            f"The dashboard may not listen on {where}: ports below 1024 are the superuser's. "
            "Choose another: --port=5555"
        )
    return (
        f"The dashboard cannot listen on {where}: {exc.strerror or exc}. "
        "Choose an address of this machine: --address=127.0.0.1"
    )


class LimitedBody(HTTPMessageDelegate):
    """Answers 413 to a request with a body of more than `MOST_BODY_BYTES`; passes on all others."""

    def __init__(self, delegate: HTTPMessageDelegate, connection: HTTPConnection) -> None:
        self._delegate = delegate
        self._connection = connection
        self._received = 0
        self._is_refused = False

    def headers_received(
        self, start_line: RequestStartLine | ResponseStartLine, headers: HTTPHeaders
    ) -> Awaitable[None] | None:
        length = headers.get("Content-Length", "")
        if length.isdecimal() and int(length) > MOST_BODY_BYTES:
            self._refuse()
            return None
        return self._delegate.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Awaitable[None] | None:
        self._received += len(chunk)
        if not self._is_refused and self._received > MOST_BODY_BYTES:
            # Without a Content-Length, in chunks.
            self._delegate.on_connection_close()
            self._refuse()
        return None if self._is_refused else self._delegate.data_received(chunk)

    def finish(self) -> None:
        if not self._is_refused:
            self._delegate.finish()

    def on_connection_close(self) -> None:
        if not self._is_refused:
            self._delegate.on_connection_close()

    def _refuse(self) -> None:
        self._is_refused = True
        text = f"The body of a request may have at most {MOST_BODY_BYTES:,} bytes.\n".encode()
        headers = HTTPHeaders(
            {"Content-Type": "text/plain; charset=UTF-8", "Content-Length": str(len(text)), "Connection": "close"}
        )
        self._connection.write_headers(ResponseStartLine("HTTP/1.1", 413, "Content Too Large"), headers, text)
        self._connection.finish()
