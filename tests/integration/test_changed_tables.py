"""A migration changes the columns of a table while processes run: what they have prepared is of the table as it was."""

import uuid
from contextlib import suppress

import psycopg
import pytest
from psycopg.errors import FeatureNotSupported

from cgk_tasks.runs import store
from cgk_tasks.sql.piped import piped
from cgk_tasks.sql.postgres import autocommit, close_pools, fetch, open_connections
from cgk_tasks.sql.statements import Statement
from cgk_tasks.sql.together import Sent, together

ALL = Statement("tests", "changed", "SELECT * FROM public.changed")


def is_there(connection):
    return fetch(connection, ALL)


@pytest.fixture(autouse=True)
def change(database):
    """Adds a column to a table."""
    close_pools()
    with psycopg.connect(database, autocommit=True) as migration:
        migration.execute("CREATE TABLE public.changed (n int)")
        yield lambda: migration.execute("ALTER TABLE public.changed ADD COLUMN m int")
        migration.execute("DROP TABLE public.changed")


def test_a_claim_goes_on(change, database):
    def claim():
        return store.claim([str(uuid.uuid4())], str(uuid.uuid4()), 1)

    claim()
    with psycopg.connect(database, autocommit=True) as migration:
        migration.execute("ALTER TABLE cgk.runs ALTER COLUMN max_attempts TYPE bigint")
        try:
            assert claim() == []
        finally:
            migration.execute("ALTER TABLE cgk.runs ALTER COLUMN max_attempts TYPE integer")
    assert claim() == []


def test_a_statement_with_its_flush_goes_on(change):
    def columns():
        with autocommit() as connection, piped(connection, ALL, {}) as sent:
            return sent.done().nfields

    assert columns() == 1
    change()
    assert columns() == 2


def test_statements_that_are_sent_together_say_that_nothing_has_happened(change):
    with autocommit() as connection:
        assert together(connection, [Sent(ALL)]).failed is None
        change()
        assert together(connection, [Sent(ALL)]).is_forgotten


def test_a_statement_of_the_driver_is_refused_once_and_its_connections_are_not_used_again(change):
    with autocommit() as first, autocommit() as second:
        for _ in range(10):
            is_there(first)
            is_there(second)
    change()
    with suppress(FeatureNotSupported), autocommit() as connection:
        is_there(connection)
    assert open_connections() == 0
    with autocommit() as connection:
        assert is_there(connection) == []


def test_what_is_not_possible_for_another_reason_costs_no_connection():
    with pytest.raises(FeatureNotSupported), autocommit() as connection:
        connection.execute("SELECT count(*) FROM public.changed FOR UPDATE")
    assert open_connections() == 1
