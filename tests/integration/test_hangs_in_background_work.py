"""A process that hangs amid work in the background holds locks that others wait for."""

import psycopg
import pytest

from cgk_tasks.sql.postgres import short_transaction, transaction

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("database")]

LOCK = "LOCK TABLE cgk.run_history IN SHARE UPDATE EXCLUSIVE MODE"


def hang(others):
    """Hold a lock until `others` has had it."""
    with short_transaction() as connection:
        connection.execute(LOCK)
        with transaction() as other:
            other.execute(LOCK)
            others.append(other)
        connection.execute("SELECT 1")


def test_postgresql_ends_its_transaction_so_that_others_go_on():
    others = []
    with pytest.raises(psycopg.Error, match="idle-in-transaction"):
        hang(others)
    assert len(others) == 1
