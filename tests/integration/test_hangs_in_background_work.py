"""A process that hangs amid work in the background holds locks that others wait for."""

from datetime import UTC, datetime

import psycopg
import pytest

from cgk_tasks.runs.partitions import make_partitions
from cgk_tasks.sql.postgres import short_transaction

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]


def hang(others):
    """Hold a lock until `others` has had it."""
    with short_transaction() as connection:
        connection.execute("LOCK TABLE cgk.run_history IN SHARE UPDATE EXCLUSIVE MODE")
        others.append(make_partitions(datetime.now(UTC).date()))
        connection.execute("SELECT 1")


def test_postgresql_ends_its_transaction_so_that_others_go_on():
    others = []
    with pytest.raises(psycopg.Error, match="idle-in-transaction"):
        hang(others)
    assert len(others) == 1
