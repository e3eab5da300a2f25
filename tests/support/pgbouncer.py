"""A real PgBouncer in transaction mode in front of a private PostgreSQL."""

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from cgk_tasks.sql.urls import parameters
from tests.support.waiting import wait_until

PGBOUNCER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")


def version() -> tuple[int, ...]:
    said = subprocess.run([PGBOUNCER, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(int(part) for part in said.split()[1].split(".")[:2])


@contextlib.contextmanager
def running_pgbouncer(database_url: str, **settings: object) -> Iterator[str]:
    """Yields the URL that leads through it. settings: more lines of pgbouncer.ini."""
    if PGBOUNCER is None:
        pytest.skip("pgbouncer is not installed")
    info = parameters(database_url)
    folder = Path(tempfile.mkdtemp(prefix="cgk-pgbouncer-"))
    folder.chmod(0o755)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lines = {
        "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "any",
        "pool_mode": "transaction", "default_pool_size": 4, **settings,
    }  # fmt: skip
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n* = host={info['host']} port={info.get('port', 5432)} user={info['user']}\n[pgbouncer]\n"
        + "".join(f"{name} = {value}\n" for name, value in lines.items())
    )
    user = ["-u", Path(info["host"]).owner()] if os.getuid() == 0 else []
    process = subprocess.Popen(
        [PGBOUNCER, *user, str(folder / "pgbouncer.ini")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"postgresql://{info['user']}@127.0.0.1:{port}/{info['dbname']}"

    def answers() -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(url):
            return True
        return False

    try:
        wait_until(answers, 10, "PgBouncer answers")
        yield url
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(folder)
