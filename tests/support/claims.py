"""Runs that the test's own process holds, as if it were a worker."""

from cgk_tasks.runs import store
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.worker.identity import worker_id


def claim_here(run_id):
    """The claimed run. No worker takes it away, however long the test lasts, though this process has no heartbeat."""
    (claimed,) = store.claim([run_id], worker_id(), 1)
    with autocommit() as connection:
        connection.execute("UPDATE cgk.runs SET started_at = now() + interval '1 hour' WHERE id = %s", [run_id])
    return claimed
