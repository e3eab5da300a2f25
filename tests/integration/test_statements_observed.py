"""Statements run through one door, which tells observers what ran and how long it took."""

import pytest

from cgk_tasks import send_job
from cgk_tasks.runs import store
from cgk_tasks.sql import door
from cgk_tasks.sql.postgres import autocommit, fetch, transaction
from cgk_tasks.sql.statements import statements
from cgk_tasks.tenancy import tenant_context, tenant_session
from tests.support.jobs import Behave


@pytest.fixture
def heard(database):
    """The statements that run in a test, with what they took and raised."""
    found = []

    def observer(statement, seconds, error):
        found.append((statement.label, seconds, error))

    door.observe(observer)
    yield found
    door.forget_observer(observer)


def labels(heard):
    return [label for label, _seconds, _error in heard]


def test_a_read_is_heard_with_its_name_and_time(heard):
    store.counts()
    ((label, seconds, error),) = heard
    assert (label, error) == ("runs.count_runs", None)
    assert 0 < seconds < 5


def test_a_send_is_heard(heard):
    send_job(Behave(tenant_id="acme", action="echo"))
    assert "transitions.insert_plain" in labels(heard)


def test_a_send_in_a_callers_session_is_heard(heard):
    with tenant_context("acme"), tenant_session() as session:
        send_job(Behave(tenant_id="acme", action="echo"), session=session)
    assert "transitions.insert_run" in labels(heard)


def test_a_statement_that_fails_is_heard_with_its_error(heard):
    with autocommit() as connection, pytest.raises(Exception) as raised:
        fetch(connection, statements("runs")["get_run"], {"id": "no uuid"})
    assert heard[-1][0] == "runs.get_run"
    assert heard[-1][2] is raised.value


def test_a_text_of_ones_own_is_run_and_not_heard(heard):
    with transaction() as connection:
        assert fetch(connection, "SELECT 1 AS one") == [{"one": 1}]
    assert heard == []
