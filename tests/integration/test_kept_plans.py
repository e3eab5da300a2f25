"""A plan is kept for as long as a worker lives, and is made while the table of open runs is small.

Read from end to end it is quickest then. The same plan would read all of a backlog, for each of its runs.
"""

import uuid
from datetime import UTC, datetime

import pytest

from cgk_tasks.events import OrderCreated
from cgk_tasks.runs import ends, store
from cgk_tasks.runs.ends import Closing
from cgk_tasks.sql.postgres import autocommit
from cgk_tasks.tenancy import TenantSession, tenant_context
from cgk_tasks.tenancy.context import current_tenant
from tests.support.content import insert

ROUNDS = 8
"""The driver prepares a statement when it comes for the sixth time."""
WORKER = str(uuid.uuid4())


@pytest.fixture
def runs(database):
    """As many as are on a page, while nothing else is there."""
    ids = [str(uuid.uuid4()) for _ in range(4 * ROUNDS)]
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs")
        for run in ids:
            values = {
                "id": run,
                "tenant_id": "acme",
                "event": OrderCreated.event_name,
                "state": "pending",
                "queue": "q",
            }
            insert(connection, "runs", {**values, "priority": 5, "payload": "{}", "run_at": datetime.now(UTC)})
        connection.execute("VACUUM (ANALYZE, TRUNCATE off) cgk.runs")
    yield ids
    with autocommit() as connection:
        connection.execute("TRUNCATE cgk.runs")


def whole_reads():
    """How often this connection has read all of the table."""
    with autocommit() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        return connection.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'runs'").fetchone()[0]


@pytest.mark.parametrize("size", [1, 3], ids=["one by one", "in packets"])
def test_claims_and_ends_never_read_the_whole_table(runs, size):
    before = whole_reads()
    for _ in range(ROUNDS):
        packet, runs = runs[:size], runs[size:]
        claimed = store.claim(packet, WORKER, 1)
        assert len(claimed) == size
        with autocommit() as connection:
            ends.finish_apart(
                connection, WORKER, [Closing(run.id, run.tenant_id, run.attempt, "completed") for run in claimed]
            )
    assert whole_reads() == before


def setting_of(session):
    return session.connection().exec_driver_sql("SHOW enable_seqscan").scalar()


def test_of_a_job_with_rows_the_end_does_not_and_its_own_statements_may(database):
    with tenant_context("acme"), TenantSession(current_tenant()) as session:
        found = [setting_of(session)]
        session.commit_with(lambda connection: found.append(connection.execute("SHOW enable_seqscan").fetchone()[0]))
        found.append(setting_of(session))
    assert found == ["on", "off", "on"]
