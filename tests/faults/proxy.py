"""A Unix socket in front of PostgreSQL that can stop passing bytes, like a network that swallows all, or refuse."""

import contextlib
import shutil
import socket
import tempfile
import threading
from pathlib import Path

_NAME = ".s.PGSQL.5432"


class Proxy:
    """Listens in a folder of its own and passes on to PostgreSQL's socket, until it is told to swallow."""

    def __init__(self, database_url: str) -> None:
        """database_url: that of a server of `cgk_tasks.embedded`, which names its socket's folder."""
        target_folder = database_url.partition("host=")[2].partition("&")[0]
        self.folder = Path(tempfile.mkdtemp(prefix="cgk-proxy-"))
        self.url = database_url.replace(target_folder, str(self.folder))
        """The database, through the proxy."""
        self._target = str(Path(target_folder) / _NAME)
        self._passing = threading.Event()
        self._passing.set()
        self._refusing = False
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.folder / _NAME))
        self._listener.listen(100)
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def swallow(self) -> None:
        """From now on nothing comes through, and no connection is refused or closed."""
        self._passing.clear()

    def refuse(self) -> None:
        """From now on connections are closed, the present ones and those to come."""
        self._refusing = True
        self._close_sockets()

    def pass_on(self) -> None:
        self._refusing = False
        self._passing.set()

    def close(self) -> None:
        self._passing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_sockets()
        shutil.rmtree(self.folder)

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
                server = socket.socket(socket.AF_UNIX)
                server.connect(self._target)
                self._sockets += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                self._passing.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
