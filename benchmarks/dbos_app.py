"""DBOS Transact in the same PostgreSQL: the workflow of jobs.py. Run as a program it is one of its worker processes."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from dbos import DBOS, DBOSConfig
from shared import MARKS, client

QUEUES: dict[str, dict[str, Any]] = {
    "its default settings": {},
    "20 workflows at once in each, looks every 50 ms": {"worker_concurrency": 20, "polling_interval_sec": 0.05},
}
"""By name. Without a limit a process begins with all that wait, in threads; so both ways are measured."""

VERSION = "1"
"""Of the application: processes execute workflows of their own version alone."""

broker = client()


def system_database_url() -> str:
    return os.environ["CGK_DATABASE_URL"]


@DBOS.step()
def nothing(number: int) -> int:
    return number


@DBOS.workflow()
def trip(steps: int) -> None:
    broker.rpush(MARKS, time.time())
    for number in range(steps):
        nothing(number)
    broker.rpush(MARKS, time.time())


def launch() -> None:
    config: DBOSConfig = {
        "name": "bench",
        "system_database_url": system_database_url(),
        "application_version": VERSION,
        "executor_id": f"bench-{os.getpid()}",
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()


if __name__ == "__main__":
    launch()
    for name, settings in QUEUES.items():
        DBOS.register_queue(name, **settings)
    threading.Event().wait()
