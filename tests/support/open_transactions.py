"""Transactions of somebody else that stay open, and what goes on meanwhile."""

import threading
from contextlib import contextmanager

import psycopg

from cgk_tasks.config import get_settings
from tests.support.waiting import wait_until


@contextmanager
def open_transaction(statement, *values):
    """It has executed this statement, and ends without a trace."""
    with psycopg.connect(get_settings().database) as connection:
        connection.execute(statement, values or None)
        yield connection
        connection.rollback()


def locked_runs(*ids):
    """These runs, locked as by a transaction that cancels or signals them."""
    return open_transaction("SELECT FROM cgk.runs WHERE id = ANY(%s::uuid[]) FOR UPDATE", list(ids))


def is_waited_for(connection):
    """Whether somebody waits for a lock that this transaction holds."""
    statement = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid))"
    return connection.execute(statement).fetchone()[0] > 0


def done_meanwhile(act, *args, **options):
    """What `act` gives, without which the transactions that are open now would have to end."""
    found = []
    thread = threading.Thread(target=lambda: found.append(act(*args, **options)), daemon=True)
    thread.start()
    wait_until(lambda: not thread.is_alive(), what=f"{act} waits for a lock")
    return found[0]
