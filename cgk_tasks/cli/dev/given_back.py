"""The runs of a worker that the session itself had to kill: they run again, and it does not count as their doing."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psycopg

from cgk_tasks.sql.postgres import Row, autocommit, execute, fetch, statements
from cgk_tasks.worker import recovery

if TYPE_CHECKING:
    from celery import Celery

SQL = statements("dispatch")


def worker_name() -> str:
    """The name of this session's worker, for `celery worker --hostname`."""
    return f"dev-{os.getpid()}@%h"


def give_back_runs(show: Callable[[str], None]) -> Callable[[int], None]:
    """A function to be called with the pid of the killed worker. What cannot be given back is reclaimed as usual,
    later.
    """

    def give_back(pid: int) -> None:
        try:
            for worker in _rows_of(pid):
                runs = recovery.reclaim(
                    worker["id"],
                    None,
                    reason="cgk-tasks dev stopped its worker",
                    loss="stop",
                    on_closed=_follow,
                )
                with autocommit() as connection:
                    execute(connection, SQL["deregister_worker"], {"id": worker["id"]})
                if runs:
                    show(f"{runs} {'run' if runs == 1 else 'runs'} had not ended and will run again")
        except psycopg.Error as exc:
            show(f"runs that had not ended will run again in half a minute: {str(exc).strip()}")

    return give_back


def _rows_of(pid: int) -> list[Row]:
    begin = worker_name().partition("%")[0]
    with autocommit() as connection:
        return [
            row for row in fetch(connection, SQL["list_workers"]) if row["name"].startswith(begin) and row["pid"] == pid
        ]


def _follow(row: Row) -> None:
    import cgk_tasks
    from cgk_tasks.celery_tasks import canvas

    app: Celery[Any] = cgk_tasks.app
    canvas.closed_without_worker(app, row)
