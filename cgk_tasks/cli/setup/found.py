"""What is there already: settings with the place where they stand, and servers on the usual addresses."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from cgk_tasks.config.env_files import values_of

ENV_LOCAL = Path(".env.local")
ENVIRONMENT = "the environment"

PROVIDER = ("JOBS_PROVIDER", "JOB_PROVIDER", "CGK_PROVIDER")
DATABASE = ("CGK_DATABASE_URL",)
BROKER = ("CGK_BROKER_URL",)
JOB_MODULES = ("CGK_JOB_MODULES",)
KEYS = ("CGK_ENCRYPTION_KEYS",)

_CONNECT_SECONDS = 0.5
_SOCKET_FOLDERS = (Path("/var/run/postgresql"), Path("/tmp"))  # noqa: S108 - where PostgreSQL's packages put it


@dataclass(frozen=True)
class Found:
    """A setting that is set: its variable, its value, and where it stands."""

    name: str
    value: str
    place: str

    @property
    def is_fixed(self) -> bool:
        """Whether `.env.local` cannot change it."""
        return self.place == ENVIRONMENT


def find(names: Sequence[str]) -> Found | None:
    """The setting as `Settings` sees it; None if it is not set, or empty.

    The environment wins. In the files the first name wins, and `.env.local` over `.env`.
    """
    in_environment = {name: Found(name, value, ENVIRONMENT) for name, value in os.environ.items()}
    in_files = {
        name.upper(): Found(name.upper(), value or "", file)
        for file in (".env", str(ENV_LOCAL))
        for name, value in values_of(Path(file)).items()
    }
    for place in (in_environment, in_files):
        for name in names:
            if (found := place.get(name)) and found.value:
                return found
    return None


def usual_database() -> str | None:
    """The URL of a PostgreSQL that listens where they usually do; there may be no right to use it."""
    name = f"{getpass.getuser()}@{{host}}/postgres"
    if _listens(5432):
        return f"postgresql://{name.format(host='localhost:5432')}"
    for folder in _SOCKET_FOLDERS:
        if (folder / ".s.PGSQL.5432").exists():
            return f"postgresql://{name.format(host='')}?host={folder}"
    return None


def usual_broker() -> str | None:
    """The URL of a Redis or RabbitMQ that listens where they usually do."""
    if _listens(6379):
        return "redis://localhost:6379/0"
    if _listens(5672):
        return "amqp://guest:guest@localhost:5672//"
    return None


def _listens(port: int) -> bool:
    try:
        with closing(socket.create_connection(("localhost", port), timeout=_CONNECT_SECONDS)):
            return True
    except OSError:
        return False
