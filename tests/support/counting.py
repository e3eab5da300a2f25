"""The counts of runs, as the leader of the workers makes them."""

from cgk_tasks.runs.counts import count_runs
from cgk_tasks.sql.postgres import autocommit


def forget_all_counts(hours=26):
    """Nothing is counted; what is on record of the last hours will be."""
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.run_counts, cgk.work_counts, cgk.work_times, cgk.queue_depths")
        connection.execute(
            "UPDATE cgk.count_progress SET seen_at = NULL, seen_xid = NULL,"
            " sure_until = date_trunc('hour', now()) - make_interval(hours => %s)",
            [hours],
        )


def count_all():
    """As the leader does within a minute: it sees what is there, and later that nobody can add to it any more."""
    count_runs()
    while count_runs():
        pass


def counts(tenant="acme", seconds=60, columns="accepted, closed, failed"):
    """The columns by the begin of each row."""
    with autocommit() as connection:
        rows = connection.execute(
            f"SELECT begin, {columns} FROM cgk.run_counts WHERE tenant_id = %s AND seconds = %s ORDER BY begin",
            [tenant, seconds],
        ).fetchall()
    return {begin: tuple(values) for begin, *values in rows}
