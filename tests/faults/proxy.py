"""A socket in front of a server that can stop passing bytes, like a network that swallows all, or refuse."""

import contextlib
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

_NAME = ".s.PGSQL.5432"


class Proxy:
    """Passes on to a server what comes to `listener`, until it is told something else."""

    def __init__(self, url: str, listener: socket.socket, connect: Callable[[], socket.socket]) -> None:
        """url: of the server, through the proxy. connect: to the server itself."""
        self.url = url
        self._connect = connect
        self._passing = threading.Event()
        self._passing.set()
        self._refusing = False
        self._loses_answers = False
        self._listener = listener
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on nothing comes through, and no connection is refused or closed."""
        self._passing.clear()

    def refuse(self) -> None:
        """From now on connections are closed, the present ones and those to come."""
        self._refusing = True
        self._close_sockets()

    def lose_answers(self) -> None:
        """From now on what is asked comes through, and the answer breaks the connection."""
        self._loses_answers = True

    def pass_on(self) -> None:
        self._refusing = self._loses_answers = False
        self._passing.set()

    def close(self) -> None:
        self._passing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_sockets()

    def _close_sockets(self) -> None:
        while self._sockets:
            each = self._sockets.pop()
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = self._listener.accept()
                if self._refusing:
                    client.close()
                    continue
                server = self._connect()
                self._sockets += [client, server]
                threading.Thread(target=self._pump, args=(client, server), daemon=True).start()
                threading.Thread(
                    target=self._pump, args=(server, client), kwargs={"answers": True}, daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, *, answers: bool = False) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._passing.wait()
                if answers and self._loses_answers:
                    source.shutdown(socket.SHUT_RDWR)
                    break
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextlib.contextmanager
def postgres_proxy(database_url: str) -> Iterator[Proxy]:
    """database_url: that of a server of `cgk_tasks.embedded`, which names its socket's folder."""
    folder = database_url.partition("host=")[2].partition("&")[0]

    def connect() -> socket.socket:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(Path(folder) / _NAME))
        return server

    with tempfile.TemporaryDirectory(prefix="cgk-proxy-") as own_folder:
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(Path(own_folder) / _NAME))
        listener.listen(100)
        with contextlib.closing(Proxy(database_url.replace(folder, own_folder), listener, connect)) as proxy:
            yield proxy


@contextlib.contextmanager
def tcp_proxy(url: str) -> Iterator[Proxy]:
    """url: of a broker that listens on a port of this machine."""
    port = urlsplit(url).port
    listener = socket.create_server(("127.0.0.1", 0))
    own_url = url.replace(f":{port}/", f":{listener.getsockname()[1]}/")
    with contextlib.closing(Proxy(own_url, listener, lambda: socket.create_connection(("127.0.0.1", port)))) as proxy:
        yield proxy
