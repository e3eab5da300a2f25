"""Serving an ASGI application in a thread of this process; keys to it."""

import socket
import threading

import uvicorn

from cgk_tasks.gateway import create_key
from tests.support.waiting import wait_until


class served:
    """An ASGI application, served on a free port for the length of a block."""

    def __init__(self, app):
        self._server = uvicorn.Server(uvicorn.Config(app, lifespan="off", access_log=False, log_config=None))
        self._listener = socket.socket(proto=socket.IPPROTO_TCP)

    def __enter__(self):
        self._listener.bind(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, args=([self._listener],), daemon=True)
        self._thread.start()
        wait_until(lambda: self._server.started, what="the gateway listens")
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_exception):
        self._server.should_exit = True
        self._thread.join(20)
        self._listener.close()


def secret_of(tenant_id="acme", scopes=("send:*", "read", "operate"), **options):
    return create_key(tenant_id, scopes, **options).secret.get_secret_value()
