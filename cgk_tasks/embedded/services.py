"""Both servers together, and their end: with the block, with the process, or by the watchdog."""

import atexit
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from cgk_tasks.config.private_servers import State
from cgk_tasks.embedded import processes
from cgk_tasks.embedded.folder import ServicesFolder
from cgk_tasks.embedded.postgres_server import PostgresServer
from cgk_tasks.embedded.redis_server import RedisServer
from cgk_tasks.embedded.server import Server
from cgk_tasks.errors import EmbeddedError


class Services:
    """The private servers of one folder. As a context manager it stops them at the end, if it owns them."""

    def __init__(
        self, folder: ServicesFolder, state: State, postgres: PostgresServer | None, redis: RedisServer | None
    ) -> None:
        self.folder = folder.path
        self.owner_pid = state.owner_pid
        self._folder = folder
        self._state = state
        self._postgres = postgres
        self._redis = redis
        self._watchdog: subprocess.Popen[bytes] | None = None

    @classmethod
    def of(cls, folder: ServicesFolder, state: State, *, durable: bool = True) -> Self:
        """The services that a state describes."""
        postgres = redis = None
        if state.home and state.socket_folder:
            postgres = PostgresServer(
                Path(state.home),
                socket_folder=Path(state.socket_folder),
                log=folder.log("postgres"),
                durable=durable,
                owner_pid=state.owner_pid,
            )
        if state.redis:
            redis = RedisServer(folder.path, log=folder.log("redis"), owner_pid=state.owner_pid)
        return cls(folder, state, postgres, redis)

    @property
    def postgres(self) -> Server:
        """The PostgreSQL server. Raises EmbeddedError when these services were started without it."""
        return self._present(self._postgres, "PostgreSQL")

    @property
    def redis(self) -> Server:
        """The Redis server. Raises EmbeddedError when these services were started without it."""
        return self._present(self._redis, "Redis")

    @property
    def database_url(self) -> str:
        """``postgresql://…`` for psycopg; for SQLAlchemy write ``postgresql+psycopg://`` instead."""
        return self.postgres.url

    @property
    def broker_url(self) -> str:
        """``redis://…``, for Celery and redis-py alike."""
        return self.redis.url

    @property
    def encryption_key(self) -> str | None:
        """For CGK_ENCRYPTION_KEYS: made at the first start, and kept beside the data that it protects."""
        return self._folder.key()

    @property
    def owned(self) -> bool:
        """Whether this process started the servers, so that they end with it."""
        return os.getpid() == self.owner_pid

    @property
    def running(self) -> bool:
        """Whether every server of these services runs."""
        return all(server.running for server in self._servers())

    def close(self) -> None:
        """Stop the servers. Safe to repeat; does nothing when another process owns them."""
        if not self.owned or self._watchdog is None:
            return
        with self._folder.locked():
            self.shut_down()

    def shut_down(self) -> None:
        """Stop the servers and the watchdog. Needs the folder's lock; :meth:`close` is for everybody else."""
        processes.stop(*map(Path, self._state.data_folders))
        for server in self._servers():
            server.reap()
        self._folder.forget(self._state)
        # Last: if a second Ctrl-C ends this method half-way, the watchdog finishes the work.
        if self._watchdog is not None:
            self._watchdog.kill()
            self._watchdog.wait()
            self._watchdog = None
        atexit.unregister(self.close)

    def launch(self) -> None:
        """Start the watchdog and then the servers, both at the same time. Needs the folder's lock."""
        self._folder.write(self._state)
        self._folder.make_key()
        # -P: Python would put this package's folder on the import path, and our module names with it.
        watched = [str(self.owner_pid), str(self.folder), *self._state.data_folders]
        command = [sys.executable, "-P", processes.__file__, *watched]
        null = subprocess.DEVNULL
        self._watchdog = subprocess.Popen(  # noqa: S603
            command, cwd="/", stdin=null, stdout=null, stderr=null, start_new_session=True
        )
        atexit.register(self.close)
        with ThreadPoolExecutor() as pool:
            for started in [pool.submit(server.start) for server in self._servers()]:
                started.result()
        self._state.database_url = self._postgres.url if self._postgres else None
        self._state.broker_url = self._redis.url if self._redis else None
        self._state.pids = {server.title: server.pid for server in self._servers()}
        self._folder.write(self._state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _servers(self) -> list[Server]:
        return [server for server in (self._postgres, self._redis) if server is not None]

    def _present(self, server: Server | None, title: str) -> Server:
        if server is None:
            raise EmbeddedError(f"The services in {self.folder} were started without {title}.")
        return server
